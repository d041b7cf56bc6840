"""Whole answers of Responses become messages."""

from __future__ import annotations

from typing import Any

import pytest
from anthropic.types import Message

from headgate.llm.convert.fields import UnreadableResponseError
from headgate.llm.convert.messages_to_responses.errors import find_type, make_error
from headgate.llm.convert.messages_to_responses.reply import convert_reply
from headgate.llm.convert.messages_to_responses.request import convert_request
from tests.unit.llm.convert.messages_to_responses.responses import (
    make_call,
    make_reasoning,
    make_response,
    make_text,
)

BASE = {
    "model": "gpt-5.4-mini",
    "max_tokens": 4_096,
    "messages": [{"role": "user", "content": "x"}],
}


def convert(response: Any, **fields: Any) -> dict[str, Any]:
    message = convert_reply(response, convert_request(BASE | fields))
    Message.model_validate(message, strict=True)
    return message


def test_message_with_thinking_text_and_tool() -> None:
    response = make_response(
        make_reasoning("First.", "Then."),
        make_text("Hello"),
        make_call("call_1", "get", '{"city":"Paris"}'),
    )
    message = convert(response, thinking={"type": "adaptive"})
    assert message["id"] == "msg_abc"
    assert message["content"] == [
        {"type": "thinking", "thinking": "First.\n\nThen.", "signature": "gAAA="},
        {"type": "text", "text": "Hello", "citations": None},
        {"type": "tool_use", "id": "call_1", "name": "get", "input": {"city": "Paris"}},
    ]
    assert message["stop_reason"] == "tool_use"
    usage = message["usage"]
    assert (usage["input_tokens"], usage["cache_read_input_tokens"]) == (70, 30)
    assert (usage["output_tokens"], usage["service_tier"]) == (50, "standard")
    assert usage["output_tokens_details"]["thinking_tokens"] == 20


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({}, "end_turn"),
        (
            {"status": "incomplete", "incomplete_details": {"reason": "max_output_tokens"}},
            "max_tokens",
        ),
        ({"status": "incomplete", "incomplete_details": {"reason": "content_filter"}}, "refusal"),
        ({"status": "incomplete", "incomplete_details": None}, "max_tokens"),
    ],
)
def test_stop_reason(fields: dict[str, Any], expected: str) -> None:
    assert convert(make_response(make_text("Hello"), **fields))["stop_reason"] == expected


def test_answer_is_cut_at_the_first_stop_sequence() -> None:
    response = make_response(make_text("One END two"), make_call("call_1", "get", "{}"))
    message = convert(response, stop_sequences=["two", "END"])
    assert [block["text"] for block in message["content"]] == ["One "]
    assert (message["stop_reason"], message["stop_sequence"]) == ("stop_sequence", "END")


def test_reasoning_without_a_summary_is_kept_for_the_next_turn() -> None:
    message = convert(make_response(make_reasoning()), thinking={"type": "adaptive"})
    assert message["content"] == [{"type": "redacted_thinking", "data": "headgate:gAAA="}]


def test_arguments_that_are_no_object_become_an_empty_input() -> None:
    for arguments in ("", "[1]", "{broken", "null"):
        message = convert(make_response(make_call("call_1", "get", arguments)))
        assert message["content"][0]["input"] == {}


def test_code_that_was_run_is_shown() -> None:
    run = {
        "type": "code_interpreter_call",
        "id": "ci_1",
        "status": "completed",
        "code": "1+1",
        "outputs": [{"type": "logs", "logs": "2"}],
    }
    first, second = convert(make_response(run))["content"]
    assert first["input"] == {"code": "1+1"}
    assert second["tool_use_id"] == first["id"]
    assert second["content"]["stdout"] == "2"


@pytest.mark.parametrize(
    "answer", [None, [], "x", {}, {"output": {}}, {"output": [], "status": "failed"}]
)
def test_anything_else_is_refused(answer: Any) -> None:
    with pytest.raises(UnreadableResponseError):
        convert(answer)


def test_errors_have_the_types_of_anthropic() -> None:
    assert make_error(429, "Slow down.", "req_1") == {
        "type": "error",
        "error": {"type": "rate_limit_error", "message": "Slow down."},
        "request_id": "req_1",
    }
    assert (find_type(418), find_type(599)) == ("invalid_request_error", "api_error")
