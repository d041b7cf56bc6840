from __future__ import annotations

import pytest
from msgspec.structs import replace

from headgate.kit.errors import HeadgateError
from headgate.kit.http.addresses import AddressOutOfScopeError, find_network, is_inside
from headgate.kit.rate_limiter import RateLimitedError, RateLimiter
from headgate.llm.usage import ParsedUsage, Usage
from headgate.relay.admission import (
    Admission,
    EndpointOutOfScopeError,
    KeyWithoutInferenceError,
    ModelOutOfScopeError,
    ProjectOutOfScopeError,
    ResourceOutOfScopeError,
    UnsupportedEndpointError,
    check_scope,
    choose_project,
    estimate_tokens,
    is_in_scope,
)
from headgate.relay.call_state import CallState
from headgate.relay.concurrency import ConcurrencyLimiter, ConcurrencyLimitError
from headgate.relay.ports import Grant, Receipt
from headgate.relay.pricing import Charge, estimate_usage
from headgate.relay.receipts import build_receipt
from tests.fakes.pipeline import GRANT, FakeCaller, ManualClock, make_call, make_state

CALLER = FakeCaller()


def make_receipt(usage: Usage | None, *, pricing: str = "priced") -> Receipt:
    call = make_call()
    charge = Charge(pricing=pricing, usage=usage)
    return build_receipt(
        CallState(call, ParsedUsage()), charge, created_at=0.0, ended_at=call.started_at
    )


def make_admission(clock: ManualClock) -> Admission:
    return Admission(RateLimiter(clock), ConcurrencyLimiter(100, lag_seconds_max=1.0))


def refuse(grant: Grant, path: str = "/chat/completions", method: str = "POST") -> HeadgateError:
    body = b'{"model":"gpt-5.4-mini"}' if method == "POST" else b""
    with pytest.raises(HeadgateError) as caught:
        check_scope(grant, make_call(path, method=method, body=body))
    return caught.value


def test_key_without_restrictions_passes() -> None:
    make_admission(ManualClock()).admit(make_call(), CALLER)


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
    assert isinstance(refuse(replace(GRANT, management=True)), KeyWithoutInferenceError)


def test_endpoint_out_of_scope_is_refused_with_the_scope() -> None:
    error = refuse(replace(GRANT, endpoints=("embeddings", "images")))
    assert isinstance(error, EndpointOutOfScopeError)
    assert "embeddings, images" in error.message


def test_administration_of_the_provider_needs_a_key_that_names_it() -> None:
    path = "/organization/users"
    assert isinstance(refuse(GRANT, path, "GET"), EndpointOutOfScopeError)
    assert isinstance(
        refuse(replace(GRANT, endpoints=("*",)), path, "GET"), EndpointOutOfScopeError
    )
    named = replace(GRANT, endpoints=("organization",))
    check_scope(named, make_call(path, method="GET", body=b""))


def test_limited_key_is_refused_other_models_and_calls_without_one() -> None:
    limited = replace(GRANT, models=("gpt-4*",))
    assert isinstance(refuse(limited), ModelOutOfScopeError)
    with pytest.raises(ModelOutOfScopeError):
        check_scope(limited, make_call("/some/future/address", body=b"raw"))


@pytest.mark.parametrize("name", ["MODEL", "Model", "mo\\u0044el"])
def test_second_model_field_is_refused_to_a_limited_key(name: str) -> None:
    body = f'{{"model":"gpt-4.1","{name}":"gpt-5.4","models":[]}}'.encode()
    for limited in (replace(GRANT, models=("gpt-4*",)), replace(GRANT, resources=("gpt-4.1",))):
        with pytest.raises(ModelOutOfScopeError, match="names one as"):
            check_scope(limited, make_call(body=body))
        check_scope(limited, make_call(body=b'{"model":"gpt-4.1","models":[]}'))
    check_scope(GRANT, make_call(body=body))


def test_free_call_needs_no_model() -> None:
    check_scope(replace(GRANT, models=("gpt-4*",)), make_call("/models", method="GET", body=b""))


def test_endpoint_that_bypasses_the_gateway_is_unsupported() -> None:
    error = refuse(GRANT, "/realtime/sessions")
    assert isinstance(error, UnsupportedEndpointError)
    assert error.should_retry is False


def test_key_may_burst_its_minute_and_then_goes_on_at_its_rate() -> None:
    admission = make_admission(clock := ManualClock())
    call = make_call(grant=replace(GRANT, requests_per_minute=60))
    for _ in range(60):
        admission.admit(call, CALLER)
    with pytest.raises(RateLimitedError) as caught:
        admission.admit(call, CALLER)
    assert caught.value.retry_after_seconds == 1.0
    clock.seconds += 1.0
    admission.admit(call, CALLER)
    with pytest.raises(RateLimitedError):
        admission.admit(call, CALLER)


def test_refused_requests_do_not_delay_the_next_one() -> None:
    admission = make_admission(clock := ManualClock())
    call = make_call(grant=replace(GRANT, requests_per_minute=1))
    admission.admit(call, CALLER)
    for _ in range(10):
        with pytest.raises(RateLimitedError):
            admission.admit(call, CALLER)
    clock.seconds += 60
    admission.admit(call, CALLER)


def test_keys_have_rates_of_their_own() -> None:
    admission = make_admission(ManualClock())
    for key_id in ("key_1", "key_2"):
        grant = replace(GRANT, key_id=key_id, requests_per_minute=1)
        admission.admit(make_call(grant=grant), CALLER)


def test_finished_call_frees_its_place() -> None:
    admission = Admission(RateLimiter(ManualClock()), ConcurrencyLimiter(1, lag_seconds_max=1.0))
    call = make_call()
    admission.admit(call, CALLER)
    with pytest.raises(ConcurrencyLimitError):
        admission.admit(call, CALLER)
    admission.release(call)
    admission.admit(call, CALLER)


class CallerWithoutAddress(FakeCaller):
    """Fail when the client's address is asked for."""

    @property
    def client_address(self) -> str:
        raise AssertionError("nobody needs it")

    @client_address.setter
    def client_address(self, address: str) -> None: ...


def test_client_address_is_only_read_for_restricted_keys() -> None:
    admission = make_admission(ManualClock())
    admission.admit(make_call(), CallerWithoutAddress())
    admission.admit(make_call(grant=replace(GRANT, requests_per_minute=5)), CallerWithoutAddress())


NETWORKS = ("203.0.113.0/24", "2001:db8::/32")


@pytest.mark.parametrize(
    ("address", "inside"),
    [
        ("203.0.113.7", True),
        ("203.0.114.7", False),
        ("::ffff:203.0.113.7", True),
        ("::ffff:cb00:7107", True),
        ("::203.0.113.7", False),
        ("2001:DB8::1", True),
        ("2001:db9::1", False),
        ("2001:db8::1%eth0", False),
        ("203.0.113.7:4000", False),
        ("[2001:db8::1]", False),
        ("203.0.113.07", False),
        ("3405803783", False),
        ("0xcb.0.0x71.7", False),
        ("", False),
        ("unknown", False),
    ],
)
def test_key_limited_to_networks_is_refused_from_other_and_unknown_addresses(
    address: str, inside: bool
) -> None:
    networks = tuple(map(find_network, NETWORKS))
    assert is_inside(address, networks) is inside
    call, caller = make_call(grant=replace(GRANT, networks=networks)), FakeCaller()
    caller.client_address = address
    if inside:
        make_admission(ManualClock()).admit(call, caller)
        return
    with pytest.raises(AddressOutOfScopeError):
        make_admission(ManualClock()).admit(call, caller)


def test_key_of_some_resources_calls_these_only() -> None:
    limited = replace(GRANT, resources=("helpdesk",))
    error = refuse(limited)
    assert isinstance(error, ResourceOutOfScopeError)
    assert error.code == "API_KEY_RESOURCE_NOT_AUTHORIZED"
    with pytest.raises(ResourceOutOfScopeError):
        check_scope(limited, make_call("/some/future/address", body=b"raw"))
    check_scope(limited, make_call(body=b'{"model":"helpdesk"}'))


def test_project_is_the_keys_own_or_an_allowed_one() -> None:
    grant = replace(GRANT, projects=("proj_2",))
    assert choose_project(grant, "proj_1") is grant
    assert choose_project(grant, "proj_2").project_id == "proj_2"
    for project_id in ("proj_3", "", "*"):
        with pytest.raises(ProjectOutOfScopeError):
            choose_project(grant, project_id)


@pytest.mark.parametrize(
    ("body", "tokens"),
    [
        (b'{"model":"m","max_tokens":7}', 7 + 7),
        (b'{"model":"m","max_tokens":7,"n":3}', 9 + 21),
        (b'{"model":"m","x":"' + b"a" * 382 + b'"}', 101 + 1_000),
        (b'{"model":"m","max_tokens":-7}', 8 + 1_000),
        (b"raw", 1_000),
    ],
)
def test_tokens_are_estimated_by_the_body_and_the_longest_answer(body: bytes, tokens: int) -> None:
    assert estimate_tokens(make_call(body=body)) == tokens


def test_picture_is_estimated_as_few_tokens_for_rate_and_bill() -> None:
    body = b'{"model":"m","max_tokens":500,"image_url":"data:image/png;base64,%b"}' % (
        b"A" * 2_500_000
    )
    call = make_call(body=body)
    assert 1_945 <= estimate_tokens(call) < 2_000
    state = make_state(call)
    state.body_bytes, state.parsed_usage.output_bytes = len(body), 40
    assert estimate_usage(state) == Usage(
        input_tokens=estimate_tokens(call) - 500, output_tokens=10
    )


def test_tokens_of_a_call_are_reserved_and_then_counted() -> None:
    admission = make_admission(ManualClock())
    grant = replace(GRANT, tokens_per_minute=100)
    call = make_call(grant=grant)
    admission.admit(call, CALLER)
    assert call.tokens_reserved == 100, "a large call takes a whole minute, and not more"
    with pytest.raises(RateLimitedError):
        admission.admit(make_call(grant=grant), CALLER)
    admission.settle(call, make_receipt(Usage(input_tokens=10, output_tokens=20)))
    following = make_call(grant=grant, body=b'{"model":"m","max_tokens":5}')
    admission.admit(following, CALLER)
    [rate] = following.rate_limits
    assert rate.remaining == 70 - following.tokens_reserved


@pytest.mark.parametrize(
    ("receipt", "left"),
    [
        (make_receipt(None, pricing="free"), 100),
        (make_receipt(None, pricing="unpriced"), 0),
        (make_receipt(Usage(), pricing="priced"), 100),
    ],
)
def test_charged_call_without_usage_counts_its_estimate(receipt: Receipt, left: int) -> None:
    rate_limiter = RateLimiter(ManualClock())
    admission = Admission(rate_limiter, ConcurrencyLimiter(100, lag_seconds_max=1.0))
    grant = replace(GRANT, tokens_per_minute=100)
    admission.admit(call := make_call(grant=grant), CALLER)
    admission.settle(call, receipt)
    if left:
        [rate] = rate_limiter.take(grant, tokens=1)
        assert rate.remaining == left - 1
    else:
        with pytest.raises(RateLimitedError):
            rate_limiter.take(grant, tokens=1)


def test_call_rejected_by_its_rate_takes_no_place() -> None:
    concurrency = ConcurrencyLimiter(100, lag_seconds_max=1.0)
    admission = Admission(RateLimiter(ManualClock()), concurrency)
    call = make_call(grant=replace(GRANT, requests_per_minute=1))
    admission.admit(call, CALLER)
    for _ in range(3):
        with pytest.raises(RateLimitedError):
            admission.admit(call, CALLER)
    assert concurrency.running == 1


def test_call_without_a_charge_is_admitted_whatever_its_tokens() -> None:
    admission = make_admission(ManualClock())
    grant = replace(GRANT, tokens_per_minute=1)
    admission.admit(make_call(grant=grant), CALLER)
    admission.admit(make_call("/models", method="GET", body=b"", grant=grant), CALLER)
