"""Routing rules see a request of any API as one of Responses."""

from __future__ import annotations

import json

import pytest

from headgate.gateway.messages import convert_call
from headgate.kit.json_limits import JsonLimits
from headgate.resources.model.request_view import ANTHROPIC, RESPONSES
from headgate.resources.model.resource import ResourceConfig
from headgate.resources.model.slot import ModelSlot
from headgate.resources.service import CompiledResource, make_view
from tests.fakes.pipeline import FakeModels, make_call
from tests.unit.resources.routing_rules import condition, matches, view


@pytest.mark.parametrize(
    ("expression", "value"),
    [
        ("request.model", "support"),
        ("request.messages[0].content", "Answer in French."),
        ("request.messages[1]['content']", "Hello"),
        ("request.messages[-1].role", "user"),
        ("request.messages.length", "3"),
        ("request.messagesCount", "3"),
        ("request.firstMessage.role", "system"),
        ("request.lastMessage?.content", "Is it urgent?"),
        ("request.allMessagesContent", "Answer in French. Hello Is it urgent?"),
        ("request.allMessagesContent.length", "37"),
        ("request.instructions", "Answer in French."),
        ("request.input[0].content[0].type", "input_text"),
        ("request.input[1].type", "function_call"),
        ("request.input[2].output", "sunny"),
        ("request.toolsCount", "1"),
        ("request.tools[0].name", "weather"),
        ("request.reasoning.effort", "high"),
        ("request.max_output_tokens", "100"),
        ("request.format", "chat-completions"),
        ("request.nativeBody.reasoning_effort", "high"),
        ("metadata['team']", "growth"),
        ("metadata.tier", "premium"),
        ('request.metadata?.["tier"]', "premium"),
    ],
)
def test_variables_show_a_chat_request_as_one_of_responses(expression: str, value: str) -> None:
    seen = view(metadata='{"tier":"premium"}')
    assert matches(condition(expression, "EQUAL", value), seen=seen)
    assert matches(condition("tokens.input", "GREATER_THAN", "100", "number"), seen=seen)


def test_one_rule_reads_all_surfaces_alike() -> None:
    same = condition("request.lastMessage.content", "EQUAL", "Now")
    parts = [{"type": "input_text", "text": "Now"}]
    asked = {"type": "message", "role": "user", "content": parts}
    called = {"type": "function_call", "call_id": "1", "name": "f", "arguments": "{}"}
    for surface, body in (
        (RESPONSES, {"input": "Now"}),
        (RESPONSES, {"instructions": "Wait.", "input": [asked, called]}),
        (ANTHROPIC, {"input": [{"role": "user", "content": parts}]}),
        ("chat-completions", {"messages": [{"role": "user", "content": "Now"}]}),
    ):
        assert matches(same, seen=view({"model": "m", **body}, surface=surface)), surface
        assert matches(
            condition("request.format", "EQUAL", surface),
            seen=view({"model": "m", **body}, surface=surface),
        )


def test_rules_see_what_a_client_of_messages_sent() -> None:
    sent = {
        "model": "support",
        "max_tokens": 100,
        "system": "Be brief.",
        "messages": [{"role": "user", "content": "Hello"}],
        "top_k": 5,
    }
    call = make_call("/messages", body=json.dumps(sent).encode())
    convert_call(call, FakeModels(), JsonLimits())
    resource = CompiledResource("support", ResourceConfig(model=ModelSlot(model="gpt")), "res_1")
    for expression, value in (
        ("request.format", "anthropic"),
        ("request.messages[0].content", "Be brief."),
        ("request.lastMessage.content", "Hello"),
        ("request.max_output_tokens", "100"),
        ("request.nativeBody.top_k", "5"),
        ("resource.name", "support"),
    ):
        assert matches(condition(expression, "EQUAL", value), seen=make_view(call, resource))
