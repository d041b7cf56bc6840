"""Responses requests become chat requests, or say why not, with the place of the fault."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from openai.types.responses.response_create_params import ResponseCreateParamsBase

from headgate.llm.convert.responses_to_chat.request import ChatRequest, convert_request
from headgate.llm.request import InvalidRequestError

BASE: dict[str, Any] = {"model": "llama", "input": "Hello"}
USER = {"role": "user", "content": "x"}
FUNCTION = {"type": "function", "name": "get", "parameters": {"type": "object"}, "strict": False}


def convert(**fields: Any) -> ChatRequest:
    return convert_request(BASE | fields)


def convert_items(*items: dict[str, Any]) -> list[dict[str, Any]]:
    return convert(input=list(items)).body["messages"]


def make_call(call_id: str, **fields: Any) -> dict[str, Any]:
    return {
        "type": "function_call",
        "call_id": call_id,
        "name": "get",
        "arguments": "{}",
        **fields,
    }


def make_output(call_id: str, output: Any = "done") -> dict[str, Any]:
    return {"type": "function_call_output", "call_id": call_id, "output": output}


def refuse(**fields: Any) -> tuple[str, str | None]:
    with pytest.raises(InvalidRequestError) as caught:
        convert(**fields)
    return caught.value.code, caught.value.param


def test_text_with_settings() -> None:
    converted = convert(
        instructions="Be brief.",
        max_output_tokens=50,
        temperature=0.5,
        top_p=0.9,
        top_logprobs=2,
        stream=True,
        stream_options={"include_obfuscation": False},
        reasoning={"effort": "low"},
        text={"format": {"type": "json_object"}, "verbosity": "low"},
        metadata={"team": "a"},
        user="u",
        store=False,
        truncation="disabled",
        background=False,
    )
    assert converted.body == {
        "model": "llama",
        "messages": [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Hello"},
        ],
        "max_completion_tokens": 50,
        "temperature": 0.5,
        "top_p": 0.9,
        "logprobs": True,
        "top_logprobs": 2,
        "stream": True,
        "stream_options": {"include_obfuscation": False},
        "reasoning_effort": "low",
        "response_format": {"type": "json_object"},
        "verbosity": "low",
        "user": "u",
    }
    assert not converted.losses
    assert convert_request(BASE | {"max_output_tokens": 5}, output_limit="max_tokens").body[
        "max_tokens"
    ] == 5  # fmt: skip


def test_structured_output_is_nested() -> None:
    wanted = {"type": "json_schema", "name": "n", "schema": {"type": "object"}, "strict": True}
    assert convert(text={"format": wanted}).body["response_format"] == {
        "type": "json_schema",
        "json_schema": {"name": "n", "schema": {"type": "object"}, "strict": True},
    }


def test_messages_and_their_parts() -> None:
    picture = {"type": "input_image", "image_url": "https://a.test/a.png", "detail": "low"}
    file = {"type": "input_file", "filename": "a.pdf", "file_data": "data:application/pdf;base64,"}
    sound = {"type": "input_audio", "input_audio": {"data": "AA==", "format": "wav"}}
    said: dict[str, Any] = {"type": "output_text", "text": "Yes", "annotations": []}
    assert convert_items(
        {"role": "developer", "content": "a"},
        {"type": "message", "role": "system", "content": [{"type": "input_text", "text": "b"}]},
        {"role": "user", "content": [{"type": "input_text", "text": "c"}, picture, file, sound]},
        {"role": "assistant", "type": "message", "id": "msg_1", "content": [said]},
        {"role": "assistant", "content": [said, {"type": "refusal", "refusal": "No"}]},
        {"role": "system", "content": "d"},
    ) == [
        {"role": "system", "content": "a\n\nb"},
        {
            "role": "user",
            "content": [
                {"type": "text", "text": "c"},
                {
                    "type": "image_url",
                    "image_url": {"url": "https://a.test/a.png", "detail": "low"},
                },
                {
                    "type": "file",
                    "file": {"file_data": "data:application/pdf;base64,", "filename": "a.pdf"},
                },
                sound,
            ],
        },
        {"role": "assistant", "content": "Yes"},
        {
            "role": "assistant",
            "content": [{"type": "text", "text": "Yes"}, {"type": "refusal", "refusal": "No"}],
        },
        {"role": "system", "content": "d"},
    ]


def test_outputs_follow_the_message_that_called_for_them() -> None:
    picture = {"type": "input_image", "image_url": "data:image/png;base64,AA=="}
    messages = convert_items(
        USER,
        {"role": "assistant", "content": "Let me see."},
        make_call("a"),
        make_call("b"),
        make_output("b"),
        USER,
        make_output("a", [{"type": "input_text", "text": "seen"}, picture]),
    )
    assert [each["role"] for each in messages] == [
        "user", "assistant", "tool", "tool", "user", "user",
    ]  # fmt: skip
    assert messages[1]["content"] == "Let me see."
    assert [each["id"] for each in messages[1]["tool_calls"]] == ["a", "b"]
    assert [each["tool_call_id"] for each in messages[2:4]] == ["a", "b"]
    assert messages[2]["content"] == "seen"
    # A tool message has text only: its pictures come after all of them.
    assert messages[4]["content"][0] == {"type": "text", "text": "[output of a]"}
    assert messages[4]["content"][1]["type"] == "image_url"


def test_calls_in_turns_are_messages_in_turns() -> None:
    messages = convert_items(make_call("a"), make_output("a"), make_call("b"), make_output("b"))
    assert [each["role"] for each in messages] == ["assistant", "tool"] * 2


def test_reasoning_that_a_server_has_shown_goes_back_to_it() -> None:
    text = [{"type": "reasoning_text", "text": "Hm."}]
    shown = {"type": "reasoning", "id": "rs_1", "summary": [], "content": text}
    assert convert_items(shown, {"role": "assistant", "content": "a"}) == [
        {"role": "assistant", "content": "a", "reasoning_content": "Hm."}
    ]
    # The form in which it comes back from a client of Messages.
    summary = [{"type": "summary_text", "text": "Hm."}]
    kept = {"type": "reasoning", "summary": summary, "encrypted_content": "headgate:reasoning"}
    assert convert_items(kept, make_call("a"), make_output("a"))[0]["reasoning"] == "Hm."
    converted = convert(input=[{**kept, "encrypted_content": "gAAA"}, USER])
    assert len(converted.body["messages"]) == 1
    assert dict(converted.losses) == {
        "input.0.encrypted_content": "lost",
        "input.0.summary": "lost",
    }


def test_tools_and_choice() -> None:
    nested: dict[str, Any] = {"type": "function", "name": "put", "parameters": {}, "strict": True}
    custom = {
        "type": "custom",
        "name": "patch",
        "description": "Patch a file.",
        "format": {"type": "grammar", "syntax": "lark", "definition": "start: WORD"},
    }
    tools: list[dict[str, Any]] = [
        FUNCTION,
        {"type": "namespace", "name": "files", "description": "Files.", "tools": [nested]},
        custom,
        {"type": "web_search"},
    ]
    converted = convert(tools=tools, tool_choice={"type": "function", "name": "get"})
    functions = [each["function"] for each in converted.body["tools"]]
    assert [each["name"] for each in functions] == ["get", "files__put", "patch"]
    assert functions[1]["description"] == "Files."
    assert "start: WORD" in functions[2]["description"]
    assert functions[2]["parameters"]["required"] == ["input"]
    assert converted.body["tool_choice"] == {"type": "function", "function": {"name": "get"}}
    assert dict(converted.losses) == {"tools.2": "approximated", "tools.3": "lost"}
    allowed = {
        "type": "allowed_tools",
        "mode": "required",
        "tools": [{"type": "custom", "name": "patch"}],
    }
    limited = convert(tools=tools, tool_choice=allowed).body
    assert [each["function"]["name"] for each in limited["tools"]] == ["patch"]
    assert limited["tool_choice"] == "required"
    strict = convert(tools=[{"type": "function", "name": "get", "parameters": {}}])
    assert dict(strict.losses) == {"tools.0.strict": "approximated"}


def test_long_names_are_shortened_and_found_again() -> None:
    name = "n" * 128
    converted = convert(
        tools=[{**FUNCTION, "name": name}],
        input=[make_call("a", name=name), make_output("a")],
    )
    short = converted.body["tools"][0]["function"]["name"]
    assert len(short) == 64
    assert converted.body["messages"][0]["tool_calls"][0]["function"]["name"] == short
    assert converted.names.find(short).name == name


def test_custom_calls_become_functions_with_one_text() -> None:
    messages = convert_items(
        {"type": "custom_tool_call", "call_id": "a", "name": "patch", "input": 'say "x"'},
        {"type": "custom_tool_call_output", "call_id": "a", "output": "done"},
    )
    arguments = messages[0]["tool_calls"][0]["function"]["arguments"]
    assert msgspec.json.decode(arguments) == {"input": 'say "x"'}
    assert messages[1] == {"role": "tool", "tool_call_id": "a", "content": "done"}


def test_calls_of_hosted_tools_are_told_as_texts() -> None:
    search = {"type": "web_search_call", "id": "ws_1", "status": "completed", "action": {"q": "x"}}
    image = {"type": "image_generation_call", "id": "ig_1", "status": "completed", "result": "AA=="}
    shot = {"type": "computer_screenshot", "image_url": "data:image/png;base64,BB=="}
    output = {"type": "computer_call_output", "call_id": "a", "output": shot}
    messages = convert_items(search, image, output)
    assert [each["role"] for each in messages] == ["assistant", "assistant", "user", "user"]
    assert messages[0]["content"] == '[web_search_call] {"action":{"q":"x"}}'
    urls = [each["content"][1]["image_url"]["url"] for each in messages[2:]]
    assert urls == ["data:image/png;base64,AA==", "data:image/png;base64,BB=="]


def test_tools_and_settings_among_the_items_hold_for_the_call() -> None:
    converted = convert(
        input=[
            {"type": "additional_tools", "role": "developer", "tools": [FUNCTION]},
            {"type": "configuration_update", "reasoning": {"effort": "high"}},
            USER,
        ],
        reasoning={"effort": "low"},
    )
    assert converted.body["tools"][0]["function"]["name"] == "get"
    assert converted.body["reasoning_effort"] == "high"
    assert dict(converted.losses) == {"input.1": "approximated"}


ONLY_RESPONSES: list[tuple[Any, str]] = [
    ({"store": True}, "store"),
    ({"previous_response_id": "resp_1"}, "previous_response_id"),
    ({"conversation": "conv_1"}, "conversation"),
    ({"prompt": {"id": "pmpt_1"}}, "prompt"),
    ({"background": True}, "background"),
    ({"input": [{"type": "item_reference", "id": "msg_1"}]}, "input[0]"),
    ({"input": [{"type": "compaction", "encrypted_content": "x"}]}, "input[0]"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "file_id": "f"}]}]},
        "input[0].content[0].file_id",
    ),
    (
        {"input": [{"role": "user", "content": [{"type": "input_file", "file_url": "f"}]}]},
        "input[0].content[0].file_url",
    ),
    (
        {"input": [{"role": "system", "content": [{"type": "input_image"}]}]},
        "input[0].content[0].type",
    ),
    ({"tools": [{"type": "file_search", "vector_store_ids": []}]}, "tools[0].type"),
    ({"tools": [{"type": "tool_search", "execution": "client"}]}, "tools[0].type"),
    ({"tool_choice": {"type": "file_search"}}, "tool_choice.type"),
]


@pytest.mark.parametrize(("fields", "place"), ONLY_RESPONSES)
def test_what_only_responses_has_is_refused_with_its_place(fields: Any, place: str) -> None:
    assert refuse(**fields) == ("unsupported_on_chat_completions", place)


FAULTS: list[tuple[Any, str, str]] = [
    ({"input": None}, "missing_required_parameter", "input"),
    ({"input": 5}, "invalid_type", "input"),
    ({"input": ["x"]}, "invalid_type", "input[0]"),
    ({"input": [{"role": "robot", "content": "x"}]}, "invalid_value", "input[0].role"),
    ({"input": [{"role": "user"}]}, "missing_required_parameter", "input[0].content"),
    ({"input": [{"role": "user", "content": True}]}, "invalid_type", "input[0].content"),
    ({"input": [{"type": "riddle"}]}, "invalid_value", "input[0].type"),
    ({"input": [make_call("a")]}, "invalid_request", "input"),
    ({"input": [make_output("a")]}, "invalid_request", "input[0]"),
    ({"input": [make_output("a"), make_output("a")]}, "invalid_request", "input[1].call_id"),
    (
        {"input": [make_call("a"), make_call("a"), make_output("a")]},
        "invalid_request",
        "input[1].call_id",
    ),
    ({"tools": [{"type": "function"}]}, "missing_required_parameter", "tools[0].name"),
    ({"tools": [{}]}, "missing_required_parameter", "tools[0].type"),
    ({"tools": {}}, "invalid_type", "tools"),
    ({"tool_choice": "maybe"}, "invalid_value", "tool_choice"),
    ({"tool_choice": {"type": "function", "name": "x"}}, "invalid_request", "tool_choice.name"),
    ({"text": "x"}, "invalid_type", "text"),
    ({"stream": 1}, "invalid_type", "stream"),
    ({"model": None}, "missing_required_parameter", "model"),
]


@pytest.mark.parametrize(("fields", "code", "place"), FAULTS)
def test_fault_is_named_as_openai_names_it(fields: Any, code: str, place: str) -> None:
    assert refuse(**fields) == (code, place)


def test_unknown_fields_are_reported() -> None:
    part = {"type": "input_text", "text": "x", "colour": 1}
    item = {"role": "user", "content": [part], "mood": "x"}
    converted = convert(
        novelty=1, input=[item], reasoning={"depth": 1}, tools=[{**FUNCTION, "a": 1}]
    )
    assert set(dict(converted.losses)) == {
        "novelty",
        "input.0.content.0.colour",
        "input.0.mood",
        "reasoning.depth",
        "tools.0.a",
    }
    assert "novelty" not in ResponseCreateParamsBase.__annotations__
