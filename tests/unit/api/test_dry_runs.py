from __future__ import annotations

from typing import Any

import pytest

from tests.fakes.api import Api
from tests.unit.api.test_resources import add_connection, create
from tests.unit.resources.routing_rules import condition, expression_rule, group, rule

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}


def try_rules(api: Api, resource: Any, **body: Any) -> Any:
    answer = api.post(f"/api/resources/{resource['id']}/dry-run", {"request": HELLO, **body})
    assert answer.status == 200, answer.text
    return answer.json


def test_dry_run_explains_which_rule_decides(api: Api) -> None:
    add_connection(api, "main")
    add_connection(api, "second")
    resource = create(
        api,
        "assistant",
        use_fallback=True,
        fallback_models=[{"model": "gpt-4o", "credential_name": "second"}],
        routing={
            "conditions": [
                group(
                    condition("request.lastMessage.content", "CONTAINS", "bomb"),
                    action="BLOCK",
                    description="No bombs",
                ),
                expression_rule(
                    "errorRate(5) > 20.0 && metadata['tier'] == 'premium'",
                    description="Failing",
                    then={
                        "model": "gpt-5.4-mini",
                        "credentials": [
                            {"credential_name": "main", "weight": 3},
                            {"credential_name": "second"},
                        ],
                        "traffic": 50,
                    },
                ),
            ]
        },
    )
    told = try_rules(api, resource, metadata={"tier": "premium"}, live={"error_rate": 30}, draw=10)
    assert told["decision"] == {
        "outcome": "rule",
        "rule": 1,
        "description": "Failing",
        "explanation": "The rule at index 1 chooses the model. It is the first rule that matches "
        "and takes the call.",
    }
    assert [(each["model"], each["credential"], each["weight"]) for each in told["targets"]] == [
        ("gpt-5.4-mini", "main", 3),
        ("gpt-5.4-mini", "second", 1),
        ("gpt-4o", "second", None),
    ]
    (compared,) = told["rules"][0]["conditions"]
    assert (compared["actual"], compared["value"], compared["matched"]) == (
        "'Hello'",
        "bomb",
        False,
    )
    assert (told["rules"][1]["drawn"], told["rules"][1]["traffic"]) == (10, 50)
    assert try_rules(api, resource)["decision"]["outcome"] == "default"
    bomb = {"input": "a bomb"}
    blocked = try_rules(api, resource, request=bomb)
    assert (blocked["decision"]["outcome"], blocked["targets"]) == ("block", [])
    assert blocked["format"] == "responses"


def test_rules_are_tried_before_they_are_saved(api: Api) -> None:
    resource = create(api, "assistant")
    saved = try_rules(api, resource)
    assert saved["decision"]["explanation"] == "The resource has no rules that are switched on."
    tried = {"conditions": [rule(condition("request.toolsCount", "EQUAL", "0", "number"))]}
    assert try_rules(api, resource, routing=tried)["decision"]["rule"] == 0


@pytest.mark.parametrize(
    ("body", "text"),
    [
        ({"format": "cohere"}, "`format` is one of"),
        ({"format": "anthropic", "request": {"messages": []}}, "at least one message"),
        ({"draw": 100}, "draw"),
        (
            {"routing": {"conditions": [expression_rule("nothing == 1")]}},
            "There is no variable `nothing`",
        ),
    ],
)
def test_what_cannot_be_tried_is_refused(api: Api, body: dict[str, Any], text: str) -> None:
    resource = create(api, "assistant")
    answer = api.post(f"/api/resources/{resource['id']}/dry-run", {"request": HELLO, **body})
    assert answer.status == 422, answer.text
    assert text in answer.text
