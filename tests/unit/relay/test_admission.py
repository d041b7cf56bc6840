from __future__ import annotations

import pytest
from msgspec.structs import replace

from headgate.kit.errors import HeadgateError
from headgate.relay.admission import (
    Admission,
    EndpointOutOfScope,
    KeyCannotInfer,
    ModelOutOfScope,
    RateLimited,
    RouteUnsupported,
    check_scope,
    is_in_scope,
)
from headgate.relay.crowd import Crowd, CrowdedOut
from headgate.relay.ports import Grant
from tests.fakes.stage import GRANT, ManualClock, make_call


def make_admission(clock: ManualClock) -> Admission:
    return Admission(clock, Crowd(100, lag_seconds_max=1.0))


def refuse(grant: Grant, path: str = "/chat/completions", method: str = "POST") -> HeadgateError:
    body = b'{"model":"gpt-5.4-mini"}' if method == "POST" else b""
    with pytest.raises(HeadgateError) as caught:
        check_scope(grant, make_call(path, method=method, body=body))
    return caught.value


def test_key_without_restrictions_passes() -> None:
    make_admission(ManualClock()).admit(make_call())


@pytest.mark.parametrize(
    ("name", "patterns", "fits"),
    [
        ("gpt-5.4", (), True),
        ("gpt-5.4", ("gpt-5*",), True),
        ("gpt-5.4", ("gpt-4*", "gpt-5.4"), True),
        ("GPT-5.4", ("gpt-5.4",), False),
        ("gpt-4o", ("gpt-5*",), False),
    ],
)
def test_name_is_in_scope_by_pattern(name: str, patterns: tuple[str, ...], fits: bool) -> None:
    assert is_in_scope(name, patterns) is fits


def test_management_key_calls_no_model() -> None:
    assert isinstance(refuse(replace(GRANT, management=True)), KeyCannotInfer)


def test_key_for_other_endpoints_is_refused_and_told_its_own() -> None:
    error = refuse(replace(GRANT, endpoints=("embeddings", "images")))
    assert isinstance(error, EndpointOutOfScope)
    assert "embeddings, images" in error.message


def test_administration_of_the_provider_needs_a_key_that_names_it() -> None:
    path = "/organization/users"
    assert isinstance(refuse(GRANT, path, "GET"), EndpointOutOfScope)
    assert isinstance(refuse(replace(GRANT, endpoints=("*",)), path, "GET"), EndpointOutOfScope)
    named = replace(GRANT, endpoints=("organization",))
    check_scope(named, make_call(path, method="GET", body=b""))


def test_key_for_other_models_is_refused_also_where_none_is_named() -> None:
    limited = replace(GRANT, models=("gpt-4*",))
    assert isinstance(refuse(limited), ModelOutOfScope)
    with pytest.raises(ModelOutOfScope):
        check_scope(limited, make_call("/some/future/address", body=b"raw"))


def test_what_costs_nothing_needs_no_model() -> None:
    check_scope(replace(GRANT, models=("gpt-4*",)), make_call("/models", method="GET", body=b""))


def test_address_that_hands_out_a_way_past_the_gateway_is_unsupported() -> None:
    error = refuse(GRANT, "/realtime/sessions")
    assert isinstance(error, RouteUnsupported)
    assert error.should_retry is False


def test_key_may_burst_its_minute_and_then_goes_on_at_its_rate() -> None:
    admission = make_admission(clock := ManualClock())
    call = make_call(grant=replace(GRANT, requests_per_minute=60))
    for _ in range(60):
        admission.admit(call)
    with pytest.raises(RateLimited) as caught:
        admission.admit(call)
    assert caught.value.retry_after_seconds == 1.0
    clock.seconds += 1.0
    admission.admit(call)
    with pytest.raises(RateLimited):
        admission.admit(call)


def test_refused_requests_do_not_put_the_next_one_off() -> None:
    admission = make_admission(clock := ManualClock())
    call = make_call(grant=replace(GRANT, requests_per_minute=1))
    admission.admit(call)
    for _ in range(10):
        with pytest.raises(RateLimited):
            admission.admit(call)
    clock.seconds += 60
    admission.admit(call)


def test_keys_have_rates_of_their_own() -> None:
    admission = make_admission(ManualClock())
    for key_id in ("key_1", "key_2"):
        grant = replace(GRANT, key_id=key_id, requests_per_minute=1)
        admission.admit(make_call(grant=grant))


def test_call_that_is_over_gives_its_place_to_the_next() -> None:
    admission = Admission(ManualClock(), Crowd(1, lag_seconds_max=1.0))
    call = make_call()
    admission.admit(call)
    with pytest.raises(CrowdedOut):
        admission.admit(call)
    admission.release(call)
    admission.admit(call)
