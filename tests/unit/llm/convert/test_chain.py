"""Messages over Chat Completions: two conversions, one after the other, streamed and whole."""

from __future__ import annotations

from typing import Any

from headgate.llm.convert.messages_to_responses import reply as messages_reply
from headgate.llm.convert.messages_to_responses import request as messages_request
from headgate.llm.convert.messages_to_responses.stream import MessageStream
from headgate.llm.convert.responses_to_chat import reply as responses_reply
from headgate.llm.convert.responses_to_chat import request as responses_request
from headgate.llm.convert.responses_to_chat.stream import ResponseStream
from tests.fakes.grammar.messages import check_stream

QUESTION: dict[str, Any] = {"role": "user", "content": "What is the weather?"}
TOOL = {"name": "get_weather", "input_schema": {"type": "object"}}
ANSWER: dict[str, Any] = {
    "role": "assistant",
    "content": "I look.",
    "reasoning": "Hm.",
    "tool_calls": [
        {"id": "c1", "type": "function", "function": {"name": "get_weather", "arguments": "{}"}}
    ],
}
USAGE = {"prompt_tokens": 10, "completion_tokens": 5, "total_tokens": 15}


def convert(*messages: dict[str, Any]) -> tuple[Any, Any]:
    """Return both converted requests of a conversation."""
    fields = {
        "model": "llama",
        "max_tokens": 2_000,
        "messages": list(messages),
        "tools": [TOOL],
        "thinking": {"type": "adaptive"},
    }
    first = messages_request.convert_request(fields)
    return first, responses_request.convert_request(first.body)


def answer() -> dict[str, Any]:
    first, second = convert(QUESTION)
    choice = {"index": 0, "message": ANSWER, "finish_reason": "tool_calls"}
    completion = {"id": "chatcmpl-1", "choices": [choice], "usage": USAGE}
    return messages_reply.convert_reply(responses_reply.convert_reply(completion, second), first)


def test_reasoning_text_and_calls_arrive_as_blocks() -> None:
    message = answer()
    assert [block["type"] for block in message["content"]] == ["thinking", "text", "tool_use"]
    assert message["content"][0]["thinking"] == "Hm."
    assert message["content"][0]["signature"]
    assert message["stop_reason"] == "tool_use"
    assert message["usage"]["output_tokens"] == 5


def test_thinking_goes_back_into_the_field_that_it_came_from() -> None:
    result = {"type": "tool_result", "tool_use_id": "c1", "content": "Rain."}
    message = {"role": "assistant", "content": answer()["content"]}
    _, second = convert(QUESTION, message, {"role": "user", "content": [result]})
    assert second.body["messages"][1:] == [
        ANSWER,
        {"role": "tool", "tool_call_id": "c1", "content": "Rain."},
    ]


def test_stream_passes_both_conversions() -> None:
    first, second = convert(QUESTION)
    inner, outer = ResponseStream(second), MessageStream(first, lambda count: count)
    call = {**ANSWER["tool_calls"][0], "index": 0}
    deltas: list[dict[str, Any]] = [
        {"role": "assistant", "content": ""},
        {"reasoning": "Hm."},
        {"content": "I "},
        {"content": "look."},
        {"tool_calls": [call]},
    ]
    chunks: list[dict[str, Any]] = [
        *({"id": "chatcmpl-1", "choices": [{"index": 0, "delta": delta}]} for delta in deltas),
        {"choices": [{"index": 0, "delta": {}, "finish_reason": "tool_calls"}]},
        {"choices": [], "usage": USAGE},
    ]
    told = [event for chunk in chunks for event in inner.feed(chunk)]
    events = [event for each in [*told, *inner.close()] for event in outer.feed(each)]
    check_stream(events)
    starts = [each["content_block"] for each in events if each["type"] == "content_block_start"]
    assert [block["type"] for block in starts] == ["thinking", "text", "tool_use"]
    deltas = [each["delta"] for each in events if each["type"] == "content_block_delta"]
    assert {"type": "thinking_delta", "thinking": "Hm."} in deltas
    assert {"type": "signature_delta", "signature": "headgate:reasoning"} in deltas
    assert events[-2]["delta"]["stop_reason"] == "tool_use"
    assert events[-2]["usage"]["output_tokens"] == 5
