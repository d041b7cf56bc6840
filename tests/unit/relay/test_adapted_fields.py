"""Which calls are adapted to what their provider takes."""

from __future__ import annotations

import json

import pytest

from headgate.gateway.encoder import render_rare_headers
from headgate.kit.errors import HeadgateError
from headgate.llm.convert.field_rules import FieldRules
from headgate.llm.request import JsonRequest
from headgate.relay.breaker import Breakers
from headgate.relay.call_state import CallState
from headgate.relay.routing import Routing
from headgate.relay.targets import CallRoute, Target
from headgate.relay.upstream import UpstreamResponse
from tests.fakes.pipeline import (
    FakeCredentials,
    FakeModels,
    FakeResponse,
    ManualClock,
    make_call,
    make_state,
)

BODY = b'{"model":"gpt-5.4-mini","user":"u","seed":7,"messages":[]}'
ROUTE = CallRoute("smart", (Target("gpt-5.4-mini"),), "res_1")
RULES = FieldRules(refused=("user",), renamed={"seed": "random_seed"})


def plan(
    route: CallRoute | None, *, rules: FieldRules | None = RULES, strict: bool = False
) -> CallState:
    state = make_state(make_call(body=BODY))
    state.call.route, state.call.is_strict = route, strict
    Routing(FakeCredentials(), FakeModels(rules=rules), Breakers(ManualClock())).plan(state)
    return state


def read_sent(state: CallState) -> object:
    assert isinstance(state.body, JsonRequest)
    return json.loads(state.body.body)


def test_routed_call_is_adapted_and_says_what_was_left_out() -> None:
    state = plan(ROUTE)
    assert read_sent(state) == {"model": "gpt-5.4-mini", "random_seed": 7, "messages": []}
    assert dict(state.losses or {}) == {"user": "lost"}
    head = render_rare_headers(state, UpstreamResponse(200, [], FakeResponse()))
    assert b"x-headgate-conversion-losses: user;lost\r\n" in head


@pytest.mark.parametrize(("route", "rules"), [(None, RULES), (ROUTE, None)])
def test_call_that_chose_its_provider_or_one_that_takes_all_is_not_changed(
    route: CallRoute | None, rules: FieldRules | None
) -> None:
    state = plan(route, rules=rules)
    assert state.body is state.call.body
    assert state.losses is None


def test_strict_call_is_refused_instead() -> None:
    with pytest.raises(HeadgateError, match="user") as raised:
        plan(ROUTE, strict=True)
    assert raised.value.code == "conversion_lossy"
