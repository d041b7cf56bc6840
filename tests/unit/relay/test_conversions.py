"""A call is converted where its provider does not speak its client's API, and only there."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from msgspec.structs import replace

from headgate.gateway.conversions import ConversionTable
from headgate.llm.endpoint import CHAT_COMPLETIONS, RESPONSES
from headgate.llm.request import JsonRequest
from headgate.relay.breaker import Breakers
from headgate.relay.call import Call
from headgate.relay.call_state import CallState
from headgate.relay.losses import ConversionLossyError
from headgate.relay.ports import Credential, Model
from headgate.relay.routing import ModelEndpointMismatchError, Routing
from tests.fakes.pipeline import (
    CREDENTIAL,
    FakeCredentials,
    FakeModels,
    ManualClock,
    make_call,
    make_state,
)

ANY = Model("m", "wire-m", 1_000, 500)
ASK = b'{"model":"m","messages":[{"role":"user","content":"x"}],"stream":true}'
RESPONDER = replace(CREDENTIAL, surfaces=frozenset({RESPONSES}))
BOTH = replace(CREDENTIAL, surfaces=frozenset({CHAT_COMPLETIONS, RESPONSES}))
ONLY_RESPONSES = replace(ANY, surfaces=frozenset({RESPONSES}))
ONLY_CHAT = replace(ANY, surfaces=frozenset({CHAT_COMPLETIONS}), converts=False)


def plan(call: Call, credential: Credential, model: Model = ANY) -> CallState:
    state = make_state(call)
    Routing(
        FakeCredentials(credential),
        FakeModels(model),
        Breakers(ManualClock()),
        conversions=ConversionTable(),
    ).plan(state)
    return state


@pytest.mark.parametrize(
    ("credential", "model"),
    [(RESPONDER, ANY), (BOTH, ONLY_RESPONSES), (CREDENTIAL, ONLY_RESPONSES)],
)
def test_chat_completion_goes_to_responses_where_nothing_else_answers(
    credential: Credential, model: Model
) -> None:
    state = plan(make_call(body=ASK), credential, model)
    assert state.conversion is not None
    assert state.target == b"/v1/responses"
    assert isinstance(state.body, JsonRequest)
    sent = msgspec.json.decode(state.body.body)
    assert sent["model"] == "wire-m"
    assert sent["input"] == [{"type": "message", "role": "user", "content": "x"}]
    # The usage of a response comes in its last event, and need not be asked for.
    assert "stream_options" not in sent
    assert not state.requested_usage


@pytest.mark.parametrize(
    ("credential", "model"),
    [
        (CREDENTIAL, ANY),
        (BOTH, ANY),
        # Another server may answer the same id by another API.
        (replace(BOTH, has_catalog_models=False), ONLY_RESPONSES),
    ],
)
def test_call_is_passed_on_where_its_api_is_spoken(credential: Credential, model: Model) -> None:
    state = plan(make_call(body=ASK), credential, model)
    assert state.conversion is None
    assert state.target == b"/v1/chat/completions"


def test_reasoning_that_a_chat_server_has_shown_is_not_sent_to_openai() -> None:
    shown: dict[str, Any] = {
        "type": "reasoning",
        "summary": [],
        "encrypted_content": "headgate:reasoning",
    }
    own: dict[str, Any] = {"type": "reasoning", "summary": [], "encrypted_content": "gAAA"}
    said = {"role": "user", "content": 'It says "headgate:reasoning".'}
    body = msgspec.json.encode({"model": "m", "input": [shown, own, said], "store": False})
    call = make_call("/responses", body=body)
    state = plan(call, BOTH)
    assert isinstance(state.body, JsonRequest)
    assert msgspec.json.decode(state.body.body)["input"] == [own, said]
    # A server of Chat Completions gets its reasoning back.
    chat = replace(BOTH, surfaces=frozenset({CHAT_COMPLETIONS}))
    assert plan(make_call("/responses", body=body), chat).conversion is not None


def test_model_that_is_not_converted_for_names_its_endpoint() -> None:
    call = make_call("/responses", body=b'{"model":"m","input":"x"}')
    with pytest.raises(ModelEndpointMismatchError) as caught:
        plan(call, BOTH, ONLY_CHAT)
    assert caught.value.param == "model"
    assert "/v1/chat/completions" in caught.value.message
    assert plan(make_call(body=ASK), BOTH, ONLY_CHAT).conversion is None


def test_strict_call_that_would_lose_something_is_refused() -> None:
    call = make_call(body=b'{"model":"m","seed":1,"messages":[{"role":"user","content":"x"}]}')
    state = plan(call, RESPONDER)
    assert state.conversion is not None
    assert dict(state.conversion.losses) == {"seed": "lost"}
    call.is_strict = True
    with pytest.raises(ConversionLossyError):
        plan(call, RESPONDER)


def test_route_that_is_planned_again_forgets_the_conversion() -> None:
    state = plan(make_call(body=ASK), RESPONDER)
    routing = Routing(
        FakeCredentials(BOTH),
        FakeModels(ANY),
        Breakers(ManualClock()),
        conversions=ConversionTable(),
    )
    routing.plan(state)
    assert state.conversion is None
    assert state.target == b"/v1/chat/completions"
