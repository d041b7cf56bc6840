"""A dry run tells what would happen to a request."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.llm.convert.messages_to_responses.validation import InvalidMessagesRequestError
from headgate.resources.model.resource import Resource, ResourceConfig
from headgate.resources.model.routing_config import RoutingConfig
from headgate.resources.model.slot import ModelSlot, WeightedCredential
from headgate.resources.service.dry_runs import DryRunRequest, DryRuns, InvalidDryRunError
from headgate.resources.service.live_values import LiveValuesSource
from tests.unit.resources.routing_rules import compile_rules, condition, rule

HELLO: dict[str, Any] = {"messages": [{"role": "user", "content": "Hello"}]}


def make_resource(*rules: Any) -> Resource:
    return Resource(
        id="res_1",
        organization_id="org_1",
        project_id="proj_1",
        name="assistant",
        description=None,
        config=ResourceConfig(
            model=ModelSlot(
                model="gpt",
                credentials=(
                    WeightedCredential(credential_id="a", weight=3),
                    WeightedCredential(credential_id="b"),
                ),
            ),
            use_fallback=True,
            fallback_models=(ModelSlot(model="mini", provider="groq", timeout_ms=5_000),),
            routing=compile_rules(*rules).config,
        ),
        created_at=0.0,
        updated_at=0.0,
    )


def make_runs() -> DryRuns:
    return DryRuns(
        LiveValuesSource(), find_rest=lambda _org, name, _model: 12.5 if name == "a" else 0.0
    )


def test_targets_are_listed_with_their_credentials_in_order() -> None:
    result = make_runs().run(make_resource(), DryRunRequest(body=HELLO))
    assert [
        (each.target.model, each.target.credential_name, each.weight, each.rest_seconds)
        for each in result.targets
    ] == [("gpt", "a", 3, 12.5), ("gpt", "b", 1, 0.0), ("groq/mini", None, None, 0.0)]
    assert (result.decision.index, result.rules, result.surface) == (-1, (), "chat-completions")


def test_a_rule_that_decides_is_the_first_target_and_a_block_has_none() -> None:
    tools = condition("request.toolsCount", "GREATER_THAN", "0", "number")
    blocked = condition("request.lastMessage.content", "CONTAINS", "bomb")
    resource = make_resource(
        rule(blocked, action="BLOCK", then={}), rule(tools, model="with-tools")
    )
    runs = make_runs()
    asked = {**HELLO, "tools": [{"type": "function", "function": {"name": "f"}}]}
    result = runs.run(resource, DryRunRequest(body=asked))
    assert [each.target.model for each in result.targets] == ["with-tools", "groq/mini"]
    assert [each.fires for each in result.rules] == [False, True]
    asked["messages"] = [{"role": "user", "content": "a bomb"}]
    result = runs.run(resource, DryRunRequest(body=asked))
    assert (result.decision.is_blocked, result.targets) == (True, ())


def test_live_values_and_chance_are_given_for_the_run() -> None:
    failing = condition("errorRate(5)", "GREATER_THAN", "20", "number")
    runs, resource = make_runs(), make_resource(rule(failing, then={"traffic": 30}))
    for error_rate, drawn, index in ((None, 0.0, -1), (25.0, 29.0, 0), (25.0, 30.0, -1)):
        request = DryRunRequest(body=HELLO, error_rate=error_rate, drawn=drawn)
        assert runs.run(resource, request).decision.index == index


def test_rules_can_be_tried_before_they_are_saved() -> None:
    tried = compile_rules(rule(condition("metadata.tier", "EQUAL", "free"), model="small")).config
    request = DryRunRequest(body=HELLO, metadata={"tier": "free"})
    assert make_runs().run(make_resource(), request, tried).decision.model is not None
    off = make_runs().run(make_resource(), request, RoutingConfig(enabled=False))
    assert off.rules == ()


def test_requests_of_all_apis_are_read() -> None:
    runs = make_runs()
    resource = make_resource(rule(condition("request.lastMessage.content", "EQUAL", "Hello")))
    for surface, body in (
        ("", HELLO),
        ("", {"input": "Hello"}),
        ("responses", {"input": "Hello"}),
        ("anthropic", HELLO),
    ):
        result = runs.run(resource, DryRunRequest(body=body, surface=surface))
        assert result.decision.index == 0, surface
        assert result.input_tokens > 0


def test_what_no_client_could_send_is_refused() -> None:
    runs, resource = make_runs(), make_resource()
    with pytest.raises(InvalidDryRunError, match="`format` is one of"):
        runs.run(resource, DryRunRequest(body=HELLO, surface="cohere"))
    with pytest.raises(InvalidMessagesRequestError, match="at least one message"):
        runs.run(resource, DryRunRequest(body={"messages": []}, surface="anthropic"))
