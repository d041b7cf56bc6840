from __future__ import annotations

import msgspec
import pytest
from msgspec.structs import replace

from headgate.llm.request import JsonRequest
from headgate.llm.usage import ParsedUsage, Usage
from headgate.llm.vmx import Envelope
from headgate.relay.admission import ModelOutOfScopeError
from headgate.relay.breaker import Breakers
from headgate.relay.call_state import CallState
from headgate.relay.ports import Grant, ManagedModelRoute, Model
from headgate.relay.pricing import price_call
from headgate.relay.routing import (
    ModelNotFoundError,
    ModelRoutedElsewhereError,
    Routing,
    SharedAccountError,
    UnsafePathError,
    check_path,
)
from tests.fakes.pipeline import (
    CREDENTIAL,
    GRANT,
    FakeCredentials,
    FakeManagedModelRoutes,
    FakeModels,
    ManualClock,
    make_call,
)

MANAGED = replace(CREDENTIAL, id="cred_any", managed=True)
ATTACHED = replace(CREDENTIAL, id="cred_attached", managed=True, base_path=b"/attached")
MINI = ManagedModelRoute("gpt-5.4-mini", "", ATTACHED)
MANAGED_ROUTES = FakeManagedModelRoutes({"gpt-5.4-mini": MINI, "old": MINI})
NAMED_OLD = b'{ "model":"old", "future":1.50 }'


def plan(
    body: bytes, path: str = "/chat/completions", models: FakeModels | None = None
) -> CallState:
    state = CallState(replace(make_call(path, body=body), query=b"?a=%20b"), ParsedUsage())
    Routing(FakeCredentials(), models or FakeModels(), Breakers(ManualClock())).plan(state)
    return state


def plan_managed(
    body: bytes = NAMED_OLD,
    *,
    path: str = "/chat/completions",
    method: str = "POST",
    managed_routes: FakeManagedModelRoutes = MANAGED_ROUTES,
    models: FakeModels | None = None,
    grant: Grant = GRANT,
    credential_name: str | None = None,
) -> CallState:
    call = make_call(path, body=body, method=method, grant=grant)
    state = CallState(replace(call, credential_name=credential_name), ParsedUsage())
    routing = Routing(
        FakeCredentials(MANAGED), models or FakeModels(), Breakers(ManualClock()), managed_routes
    )
    routing.plan(state)
    return state


def body_of(state: CallState) -> bytes:
    assert isinstance(state.body, JsonRequest)
    return state.body.body


def test_bytes_of_the_client_are_sent_as_they_came() -> None:
    body = b'{ "model" : "gpt-5.4-mini", "future": [1.50, 1e2], "model_x": null }'
    state = plan(body)
    assert body_of(state) is body
    assert state.target == b"/v1/chat/completions?a=%20b"
    assert state.credential is CREDENTIAL


def test_usage_is_requested_of_a_stream_unless_the_client_did() -> None:
    state = plan(b'{"model":"gpt-5.4-mini","stream":true}')
    assert state.requested_usage
    assert b'"include_usage":true' in body_of(state)
    body = b'{"model":"m","stream":true,"stream_options":{"include_usage":true}}'
    state = plan(body)
    assert not state.requested_usage
    assert body_of(state) is body


def test_usage_is_not_requested_where_the_wire_always_has_it() -> None:
    body = b'{"model":"gpt-5.4-mini","stream":true}'
    state = plan(body, "/responses")
    assert (state.streams, state.requested_usage) == (True, False)
    assert body_of(state) is body


def test_envelopes_are_not_forwarded() -> None:
    assert body_of(plan(b'{"model":"m","vmx":{"a":1},"n":1}')) == b'{"model":"m","n":1}'


def test_arguments_for_the_provider_are_what_is_held_for() -> None:
    raw = {"max_tokens": msgspec.Raw(b"900"), "service_tier": msgspec.Raw(b'"flex"')}
    envelope = Envelope(provider_args={**raw, "stream_options": msgspec.Raw(b"{}")})
    body = b'{"model":"gpt-5.4-mini","max_tokens":5,"stream":true}'
    state = CallState(make_call(body=body), ParsedUsage())
    state.call.envelope = envelope
    Routing(FakeCredentials(), FakeModels(), Breakers(ManualClock())).plan(state)
    assert isinstance(state.body, JsonRequest)
    assert state.body.output_tokens_max == 900
    assert state.body.service_tier == "flex"
    assert b'"stream_options":{"include_usage":true}' in state.body.body
    assert state.requested_usage


def test_catalog_model_is_sent_by_its_wire_id() -> None:
    models = FakeModels(Model("fast", "gpt-5.4-mini-2026-03-17"))
    assert b'"gpt-5.4-mini-2026-03-17"' in body_of(plan(b'{"model":"fast"}', models=models))
    assert body_of(plan(b'{"model":"unknown"}', models=models)) == b'{"model":"unknown"}'


@pytest.mark.parametrize("path", [b"/files/file-1/content", b"/a%20b", b"/models/ft:gpt-4o:x::1"])
def test_plain_path_passes(path: bytes) -> None:
    assert check_path(path) is path


@pytest.mark.parametrize(
    "path",
    [
        b"/../admin",
        b"/files/..",
        b"/files/./x",
        b"/%2e%2e/admin",
        b"/%252e%252e/admin",
        b"/..%2fadmin",
        b"/a%5c..%5cb",
        b"/a//b",
        b"/a%0d%0ax",
        b"/a%00",
        b"/..;/admin",
        b"/files/..;a=b/x",
        b"/files/.;/x",
        b"/files/%2e%2e%3b/x",
    ],
)
def test_path_that_could_leave_the_base_address_is_refused(path: bytes) -> None:
    with pytest.raises(UnsafePathError):
        check_path(path)


def test_managed_model_goes_to_its_own_credential_byte_for_byte() -> None:
    body = b'{ "model" : "gpt-5.4-mini", "future": [1.50, 1e2] }'
    state = plan_managed(body)
    assert body_of(state) is body
    assert state.credential is ATTACHED
    assert state.target == b"/attached/chat/completions"
    assert state.parsed_usage.model is None


def test_deprecated_managed_model_is_replaced_and_nothing_else_of_the_body() -> None:
    state = plan_managed()
    assert body_of(state) == b'{ "model":"gpt-5.4-mini", "future":1.50 }'
    assert state.model is not None
    assert (state.call.model, state.model.id, state.parsed_usage.model) == (
        "old",
        *["gpt-5.4-mini"] * 2,
    )


@pytest.mark.parametrize("served", [None, "a-name-of-the-provider"])
def test_replaced_model_is_priced_as_the_one_that_serves(served: str | None) -> None:
    state = plan_managed()
    state.attempts, state.outcome = 1, "completed"
    state.parsed_usage.usage = Usage(input_tokens=7)
    state.parsed_usage.model = served or state.parsed_usage.model
    charge = price_call(state, FakeModels(), 0.0)
    assert (charge.pricing, charge.cost_nano) == ("priced", 7)


def test_provider_is_told_the_wire_id_and_the_catalog_is_asked_for_it() -> None:
    models = FakeModels(Model("gpt-5.4-mini", "gpt-5.4-mini-2026"))
    for wire_id, told in (("", "gpt-5.4-mini-2026"), ("deploy-1", "deploy-1")):
        managed_routes = FakeManagedModelRoutes(
            {"old": ManagedModelRoute("gpt-5.4-mini", wire_id, ATTACHED)}
        )
        state = plan_managed(managed_routes=managed_routes, models=models)
        assert body_of(state).startswith(b'{ "model":"%b",' % told.encode())
        assert state.model is models.model
    managed_routes = FakeManagedModelRoutes(
        {"house": ManagedModelRoute("house", "gpt-5.4-mini", ATTACHED)}
    )
    state = plan_managed(b'{"model":"house"}', managed_routes=managed_routes, models=models)
    assert body_of(state) == b'{"model":"gpt-5.4-mini"}'
    assert state.model is models.model


def test_unknown_managed_model_is_served_by_the_default() -> None:
    managed_routes = replace_default(MINI)
    for path in ("/chat/completions", "/responses"):
        state = plan_managed(b'{"model":"unknown"}', path=path, managed_routes=managed_routes)
        assert body_of(state) == b'{"model":"gpt-5.4-mini"}'
        assert state.credential is ATTACHED
    with pytest.raises(ModelNotFoundError):
        plan_managed(b'{"model":"unknown"}', path="/embeddings", managed_routes=managed_routes)


def replace_default(managed_route: ManagedModelRoute) -> FakeManagedModelRoutes:
    return FakeManagedModelRoutes(MANAGED_ROUTES.named, managed_route)


def test_unknown_managed_model_is_refused_where_nothing_serves_it() -> None:
    with pytest.raises(ModelNotFoundError, match="'unknown'") as refused:
        plan_managed(b'{"model":"unknown"}')
    assert (refused.value.param, refused.value.should_retry) == ("model", False)


def test_any_managed_credential_serves_while_no_model_is_managed() -> None:
    state = plan_managed(b'{"model":"unknown"}', managed_routes=FakeManagedModelRoutes())
    assert state.credential is MANAGED
    assert body_of(state) == b'{"model":"unknown"}'


def test_own_credential_is_never_rerouted() -> None:
    state = CallState(make_call(body=NAMED_OLD), ParsedUsage())
    Routing(FakeCredentials(), FakeModels(), Breakers(ManualClock()), MANAGED_ROUTES).plan(state)
    assert state.credential is CREDENTIAL
    assert body_of(state) is NAMED_OLD


@pytest.mark.parametrize("body", [NAMED_OLD, b'{"model":"other"}'])
def test_scope_of_a_key_holds_for_the_model_that_serves(body: bytes) -> None:
    managed_routes = replace_default(MINI)
    with pytest.raises(ModelOutOfScopeError, match="is served by") as refused:
        plan_managed(
            body, managed_routes=managed_routes, grant=replace(GRANT, models=("old", "other"))
        )
    assert refused.value.param == "model"
    both = replace(GRANT, models=("old", "other", "gpt-5*"))
    assert plan_managed(body, managed_routes=managed_routes, grant=both).credential is ATTACHED


def test_named_managed_credential_serves_its_own_models_only() -> None:
    with pytest.raises(ModelRoutedElsewhereError):
        plan_managed(credential_name="any")
    managed_routes = FakeManagedModelRoutes({"old": ManagedModelRoute("gpt-5.4-mini", "", MANAGED)})
    assert plan_managed(managed_routes=managed_routes, credential_name="any").credential is MANAGED


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/files"),
        ("DELETE", "/files/file-1"),
        ("GET", "/responses/resp-1"),
        ("GET", "/chat/completions"),
        ("GET", "/vector_stores"),
        ("DELETE", "/models/ft:gpt-4o:x::1"),
        ("POST", "/conversations"),
    ],
)
@pytest.mark.parametrize("managed_routes", [MANAGED_ROUTES, FakeManagedModelRoutes()])
def test_managed_calls_cannot_reach_stored_contents(
    method: str, path: str, managed_routes: FakeManagedModelRoutes
) -> None:
    with pytest.raises(SharedAccountError) as refused:
        plan_managed(b"", path=path, method=method, managed_routes=managed_routes)
    assert refused.value.should_retry is False


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("GET", "/models", b""),
        ("HEAD", "/models", b""),
        ("GET", "/models/x", b""),
        ("POST", "/moderations", b'{"input":"x"}'),
        ("POST", "/moderations", b'{"model":"omni-moderation-latest","input":"x"}'),
    ],
)
def test_free_calls_that_store_nothing_pass_on_the_platforms_credential(
    method: str, path: str, body: bytes
) -> None:
    assert plan_managed(body, path=path, method=method).credential is MANAGED
