"""Routing rules and several credentials on a running server, with the official SDK."""

from __future__ import annotations

from collections import Counter
from typing import Any

import openai

from tests.e2e.test_capacity import COMPLETION, MESSAGES, call_api
from tests.fakes.gateway import Gateway
from tests.fakes.upstream import FakeUpstream, ReceivedRequest
from tests.unit.resources.routing_rules import condition, expression_rule, group

REFUSED = b'{"error":{"message":"no","type":"x","code":"no"}}'


def add_connection(gateway: Gateway, upstream: FakeUpstream, name: str, **more: Any) -> None:
    config = {"api_key": f"sk-own-0123456789abcdefghijkl-{name}", "base_url": upstream.base_url}
    call_api(gateway, "POST", "/api/connections", {"name": name, "config": config, **more})


def ask(gateway: Gateway) -> str:
    """Return the model that answered a call of the resource, or the code of its error."""
    with openai.OpenAI(api_key=gateway.key, base_url=gateway.base_url, max_retries=0) as client:
        try:
            answer = client.chat.completions.with_raw_response.create(
                model="assistant", messages=MESSAGES
            )
        except openai.APIStatusError as error:
            return str(error.code)
        return answer.headers["x-headgate-model"]


def test_failures_and_used_up_limits_change_where_calls_go(
    gateway: Gateway, upstream: FakeUpstream
) -> None:
    def script(received: ReceivedRequest) -> None:
        if received.json["model"] == "primary":
            received.answer(REFUSED, status=500, headers={"x-should-retry": "false"})
        else:
            received.answer(COMPLETION)

    upstream.script = script
    add_connection(gateway, upstream, "a")
    add_connection(gateway, upstream, "b", capacity=[{"period": "month", "requests": 2}])
    used = "capacityUsage('month', 'b').requestsUsagePercent"
    rules = [
        group(
            condition(used, "GREATER_THAN_OR_EQUAL", "100", "number"),
            action="BLOCK",
            description="b is used up",
        ),
        expression_rule(
            "errorRate(5, 500) > 40.0", then={"model": "backup", "credential_name": "b"}
        ),
    ]
    primary = {"model": "primary", "credential_name": "a"}
    resource = {"name": "assistant", "model": primary, "routing": {"conditions": rules}}
    call_api(gateway, "POST", "/api/resources", resource)
    assert [ask(gateway) for _ in range(4)] == [
        "no",
        "gpt-5.4-mini",
        "gpt-5.4-mini",
        "blocked_by_routing_condition",
    ]
    sent = [received.json["model"] for received in upstream.received]
    assert sent == ["primary", "backup", "backup"]
    told = call_api(
        gateway, "POST", "/api/resources/assistant/dry-run", {"request": {"messages": MESSAGES}}
    )
    assert (told["decision"]["outcome"], told["decision"]["description"]) == (
        "block",
        "b is used up",
    )
    assert told["rules"][0]["conditions"][0]["actual"] == "100"
    assert told["rules"][1]["conditions"][-1]["actual"] == "100"


def test_a_credential_that_fails_is_left_out(gateway: Gateway, upstream: FakeUpstream) -> None:
    tried: Counter[str] = Counter()

    def script(received: ReceivedRequest) -> None:
        name = received.headers["authorization"][-1]
        tried[name] += 1
        if name == "a":
            received.answer(REFUSED, status=401, headers={"x-should-retry": "false"})
        else:
            received.answer(COMPLETION)

    upstream.script = script
    for name in "ab":
        add_connection(gateway, upstream, name)
    shared = [{"credential_name": "a", "weight": 1_000}, {"credential_name": "b", "weight": 1}]
    model = {"model": "gpt-5.4-mini", "credentials": shared}
    call_api(gateway, "POST", "/api/resources", {"name": "assistant", "model": model})
    assert [ask(gateway) for _ in range(30)] == ["gpt-5.4-mini"] * 30
    assert tried == {"a": 5, "b": 30}
