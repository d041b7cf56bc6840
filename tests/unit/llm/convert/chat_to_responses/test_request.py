"""Requests for chat completions become requests for responses, and nothing gets lost in silence."""

from __future__ import annotations

from typing import Any

import pytest

from headgate.kit.errors import HeadgateError
from headgate.llm.convert.chat_to_responses.request import ConvertedCompletion, convert_request
from headgate.llm.request import InvalidRequestError

USER = {"role": "user", "content": "Hello"}
PNG = "data:image/png;base64,AAAA"


def convert(*messages: Any, **fields: Any) -> ConvertedCompletion:
    return convert_request({"model": "m", "messages": list(messages) or [USER], **fields})


def convert_items(*messages: Any) -> list[dict[str, Any]]:
    converted = convert(*messages)
    assert not converted.losses
    return converted.body["input"]


def list_losses(*messages: Any, **fields: Any) -> dict[str, str]:
    return dict(convert(*messages, **fields).losses)


def refuse(*messages: Any, **fields: Any) -> HeadgateError:
    with pytest.raises(HeadgateError) as caught:
        convert(*messages, **fields)
    return caught.value


def test_plain_request_keeps_its_texts_and_stores_nothing() -> None:
    converted = convert({"role": "system", "content": "Be brief."}, USER, stream=True)
    assert converted.body == {
        "model": "m",
        "stream": True,
        "input": [
            {"type": "message", "role": "system", "content": "Be brief."},
            {"type": "message", "role": "user", "content": "Hello"},
        ],
        "store": False,
    }
    assert not converted.losses


def test_parts_keep_their_kind_detail_and_cache_marks() -> None:
    mark = {"mode": "explicit"}
    parts = [
        {"type": "text", "text": "a", "prompt_cache_breakpoint": mark},
        {"type": "image_url", "image_url": {"url": PNG, "detail": "low"}},
        {"type": "image_url", "image_url": {"url": "https://x.example/a.png"}},
        {"type": "file", "file": {"file_data": "data:application/pdf;base64,AA", "filename": "a"}},
        {"type": "file", "file": {"file_id": "file-1"}},
    ]
    (item,) = convert_items({"role": "user", "content": parts})
    assert item["content"] == [
        {"type": "input_text", "text": "a", "prompt_cache_breakpoint": mark},
        {"type": "input_image", "image_url": PNG, "detail": "low"},
        {"type": "input_image", "image_url": "https://x.example/a.png", "detail": "auto"},
        {"type": "input_file", "file_data": "data:application/pdf;base64,AA", "filename": "a"},
        {"type": "input_file", "file_id": "file-1"},
    ]


def test_conversation_with_tools_keeps_calls_and_outputs_together() -> None:
    assistant = {
        "role": "assistant",
        "content": "One moment.",
        "refusal": None,
        "annotations": [],
        "tool_calls": [
            {"id": "c1", "type": "function", "function": {"name": "f", "arguments": "{}"}},
            {"id": "c2", "type": "custom", "custom": {"name": "g", "input": "ls"}},
        ],
    }
    outputs = [
        {"role": "tool", "tool_call_id": "c1", "content": "1"},
        {"role": "tool", "tool_call_id": "c2", "content": [{"type": "text", "text": "2"}]},
    ]
    text = {"type": "output_text", "text": "One moment."}
    assert convert_items(USER, assistant, *outputs)[1:] == [
        {"type": "message", "role": "assistant", "content": [text]},
        {"type": "function_call", "call_id": "c1", "name": "f", "arguments": "{}"},
        {"type": "custom_tool_call", "call_id": "c2", "name": "g", "input": "ls"},
        {"type": "function_call_output", "call_id": "c1", "output": "1"},
        {
            "type": "custom_tool_call_output",
            "call_id": "c2",
            "output": [{"type": "input_text", "text": "2"}],
        },
    ]


def test_earlier_answers_keep_refusals_and_citations() -> None:
    citation = {"start_index": 0, "end_index": 1, "title": "t", "url": "https://x.example"}
    answer = {
        "role": "assistant",
        "content": "a",
        "annotations": [{"type": "url_citation", "url_citation": citation}],
    }
    refusal = {"role": "assistant", "content": None, "refusal": "No."}
    first, second = convert_items(answer, refusal)
    assert first["content"][0]["annotations"] == [{"type": "url_citation", **citation}]
    assert second["content"] == [{"type": "refusal", "refusal": "No."}]


def test_deprecated_functions_become_tools_that_are_called_one_by_one() -> None:
    call = {"role": "assistant", "content": None, "function_call": {"name": "f", "arguments": "1"}}
    output = {"role": "function", "name": "f", "content": "2"}
    function = {"name": "f", "description": "d"}
    converted = convert(USER, call, output, functions=[function], function_call={"name": "f"})
    body = converted.body
    assert converted.names_functions
    assert [each["type"] for each in body["input"][1:]] == ["function_call", "function_call_output"]
    assert body["input"][1]["call_id"] == body["input"][2]["call_id"]
    assert body["tool_choice"] == {"type": "function", "name": "f"}
    assert body["parallel_tool_calls"] is False
    assert body["tools"] == [
        {
            "type": "function",
            "name": "f",
            "description": "d",
            "parameters": {"type": "object", "properties": {}},
            "strict": False,
        }
    ]


def test_tools_and_choices_are_flattened() -> None:
    grammar = {"type": "grammar", "grammar": {"definition": "x", "syntax": "lark"}}
    named = {"type": "function", "function": {"name": "f"}}
    tools = [
        {"type": "function", "function": {"name": "f", "parameters": {"a": 1}, "strict": True}},
        {"type": "custom", "custom": {"name": "g", "format": grammar}},
    ]
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [named]}}
    body = convert(tools=tools, tool_choice=allowed, parallel_tool_calls=False).body
    assert body["tools"] == [
        {
            "type": "function",
            "name": "f",
            "description": None,
            "parameters": {"a": 1},
            "strict": True,
        },
        {
            "type": "custom",
            "name": "g",
            "format": {"type": "grammar", "definition": "x", "syntax": "lark"},
        },
    ]
    assert body["tool_choice"] == {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "function", "name": "f"}],
    }
    assert body["parallel_tool_calls"] is False
    assert convert(tools=tools, tool_choice=named).body["tool_choice"] == {
        "type": "function",
        "name": "f",
    }
    assert convert(tools=tools, tool_choice="required").body["tool_choice"] == "required"


def test_settings_move_to_where_responses_has_them() -> None:
    schema = {"name": "n", "schema": {"type": "object"}, "strict": True, "description": "d"}
    converted = convert(
        max_completion_tokens=100,
        reasoning_effort="high",
        verbosity="low",
        response_format={"type": "json_schema", "json_schema": schema},
        logprobs=True,
        top_logprobs=2,
        stream_options={"include_usage": True, "include_obfuscation": False},
        stop=["END"],
        modalities=["text"],
        n=1,
        frequency_penalty=0,
        logit_bias={},
    )
    body = converted.body
    assert not converted.losses
    assert body["max_output_tokens"] == 100
    assert body["reasoning"] == {"effort": "high"}
    assert body["text"] == {"verbosity": "low", "format": {"type": "json_schema", **schema}}
    assert (body["include"], body["top_logprobs"]) == (["message.output_text.logprobs"], 2)
    assert body["stream_options"] == {"include_obfuscation": False}
    assert converted.includes_usage
    assert converted.is_json
    assert converted.stop == ("END",)
    assert not body.keys() & {"n", "stop", "modalities", "verbosity", "response_format"}


def test_what_gets_lost_is_listed_with_its_place() -> None:
    long = "x" * 65
    call = {"id": long, "type": "function", "function": {"name": "f", "arguments": "", "y": 1}}
    messages = [
        {**USER, "name": "ann"},
        {
            "role": "assistant",
            "tool_calls": [call],
            "reasoning": "hm",
            "audio": {"id": "a"},
        },
        {"role": "tool", "tool_call_id": long, "content": "1"},
    ]
    assert list_losses(
        *messages, seed=0, max_tokens=3, top_k=1, store=True, prediction={"a": 1}
    ) == {
        "max_tokens": "approximated",
        "messages.0.name": "lost",
        "messages.1.reasoning": "lost",
        "messages.1.audio": "lost",
        "messages.1.tool_calls.0.id": "approximated",
        "messages.1.tool_calls.0.function.y": "lost",
        "messages.2.tool_call_id": "approximated",
        "store": "approximated",
        "seed": "lost",
        "prediction": "lost",
        "top_k": "lost",
    }
    body = convert(*messages).body
    assert len(body["input"][1]["call_id"]) == 64
    assert body["input"][1]["call_id"] == body["input"][2]["call_id"]
    assert convert(max_tokens=3).body["max_output_tokens"] == 16


def test_search_becomes_a_tool_and_is_reported() -> None:
    approximate = {"city": "Berlin", "country": "DE"}
    options = {
        "search_context_size": "low",
        "user_location": {"type": "approximate", "approximate": approximate},
    }
    converted = convert(web_search_options=options)
    assert converted.body["tools"] == [
        {
            "type": "web_search",
            "search_context_size": "low",
            "user_location": {"type": "approximate", **approximate},
        }
    ]
    assert dict(converted.losses) == {"web_search_options": "approximated"}


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"n": 2}, "n"),
        ({"modalities": ["text", "audio"]}, "modalities"),
        (
            {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
            "messages[0].content[0]",
        ),
    ],
)
def test_what_a_response_cannot_be_is_refused(fields: dict[str, Any], place: str) -> None:
    error = refuse(**fields)
    assert (error.code, error.param) == ("unsupported_on_responses", place)


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"messages": []}, "messages"),
        ({"messages": None}, "messages"),
        ({"messages": "x"}, "messages"),
        ({"messages": [1]}, "messages[0]"),
        ({"messages": [{"content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "bot", "content": "x"}]}, "messages[0].role"),
        ({"messages": [{"role": "user"}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": 1}]}, "messages[0].content"),
        ({"messages": [{"role": "user", "content": [1]}]}, "messages[0].content[0]"),
        (
            {"messages": [{"role": "user", "content": [{"type": "video"}]}]},
            "messages[0].content[0].type",
        ),
        ({"messages": [{"role": "assistant"}]}, "messages[0].content"),
        ({"messages": [{"role": "tool", "content": "x"}]}, "messages[0].tool_call_id"),
        ({"messages": [{"role": "function", "name": "f", "content": ""}]}, "messages[0].name"),
        ({"tools": [{"type": "function"}]}, "tools[0].function"),
        ({"tools": [{"type": "web_search"}]}, "tools[0].type"),
        ({"tool_choice": "some"}, "tool_choice"),
        ({"response_format": "json"}, "response_format"),
        ({"response_format": {"type": "xml"}}, "response_format.type"),
        ({"stop": ["a", "b", "c", "d", "e"]}, "stop"),
        ({"stop": [1]}, "stop[0]"),
        ({"model": None}, "model"),
    ],
)
def test_malformed_field_is_refused_by_its_place(fields: dict[str, Any], place: str) -> None:
    error = refuse(**fields)
    assert isinstance(error, InvalidRequestError)
    assert error.param == place
