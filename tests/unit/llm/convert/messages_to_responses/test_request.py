"""Messages requests become Responses requests, or get Anthropic's own error."""

from __future__ import annotations

import base64
import json
from typing import Any

import pytest

from headgate.llm.convert.messages_to_responses.content import REDACTED_PREFIX
from headgate.llm.convert.messages_to_responses.reply import convert_reply
from headgate.llm.convert.messages_to_responses.request import ConvertedRequest, convert_request
from headgate.llm.convert.messages_to_responses.tools import UnsupportedServerToolError
from headgate.llm.convert.messages_to_responses.validation import InvalidMessagesRequestError
from tests.unit.llm.convert.messages_to_responses.responses import make_reasoning, make_response
from tests.unit.llm.test_token_count import make_png

HELLO = [{"role": "user", "content": "Hello"}]
BASE: dict[str, Any] = {"model": "gpt-5.4-mini", "max_tokens": 1_000, "messages": HELLO}
PIXEL = {"type": "base64", "media_type": "image/png", "data": "aGk="}


def convert(*, reasons: bool = True, **fields: Any) -> ConvertedRequest:
    return convert_request(BASE | fields, reasons=reasons)


def convert_content(*blocks: Any, role: str = "user") -> list[dict[str, Any]]:
    messages = [{"role": role, "content": list(blocks)}]
    if role == "assistant":
        messages += HELLO
    return convert(messages=messages).body["input"]


def test_plain_request() -> None:
    converted = convert(system="Be kind.", stream=True)
    assert converted.body == {
        "model": "gpt-5.4-mini",
        "store": False,
        "max_output_tokens": 1_000,
        "instructions": "Be kind.",
        "stream": True,
        "input": [
            {
                "type": "message",
                "role": "user",
                "content": [{"type": "input_text", "text": "Hello"}],
            }
        ],
    }
    assert converted.streams
    assert list(converted.losses) == []


def test_blocks_of_the_system_are_joined_and_cache_hints_change_nothing() -> None:
    blocks = [
        {"type": "text", "text": "One.", "cache_control": {"type": "ephemeral"}},
        {"type": "text", "text": "Two."},
    ]
    converted = convert(system=blocks)
    assert converted.body["instructions"] == "One.\nTwo."
    assert list(converted.losses) == []


SCHEMA: dict[str, Any] = {"type": "object"}
EMPTY: dict[str, Any] = {}
PDF = base64.b64encode(b"%PDF-1.7\n").decode()


def make_image(data: bytes, media_type: str = "image/png") -> dict[str, Any]:
    encoded = base64.b64encode(data).decode()
    source = {"type": "base64", "media_type": media_type, "data": encoded}
    return {"type": "image", "source": source}


FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"model": None}, "model"),
    ({"model": ""}, "model"),
    ({"max_tokens": None}, "max_tokens"),
    ({"max_tokens": 0}, "max_tokens"),
    ({"max_tokens": "9"}, "max_tokens"),
    ({"max_tokens": True}, "max_tokens"),
    ({"messages": []}, "messages"),
    ({"messages": "Hello"}, "messages"),
    ({"messages": ["Hello"]}, "messages.0"),
    ({"messages": [{"role": "robot", "content": "x"}]}, "messages.0.role"),
    ({"messages": [{"role": "user"}]}, "messages.0.content"),
    ({"messages": [{"role": "user", "content": ""}]}, "messages.0"),
    (
        {"messages": [{"role": "user", "content": [{"type": "text", "text": ""}]}]},
        "messages.0.content.0",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "song"}]}]},
        "messages.0.content.0.type",
    ),
    ({"messages": [{"role": "user", "content": [{"text": "x"}]}]}, "messages.0.content.0.type"),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [{"type": "thinking", "thinking": "", "signature": ""}],
                }
            ]
        },
        "messages.0.content.0",
    ),
    (
        {
            "messages": [
                {
                    "role": "user",
                    "content": [
                        {
                            "type": "image",
                            "source": {
                                "type": "base64",
                                "media_type": "image/bmp",
                                "data": "x",
                            },
                        }
                    ],
                }
            ]
        },
        "messages.0.content.0.source.media_type",
    ),
    ({"temperature": 1.5}, "temperature"),
    ({"temperature": "warm"}, "temperature"),
    ({"thinking": {"type": "enabled"}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 10}}, "thinking.budget_tokens"),
    ({"thinking": {"type": "enabled", "budget_tokens": 1_024}}, "thinking.budget_tokens"),
    ({"stop_sequences": ["x", "y" * 257]}, "stop_sequences.1"),
    ({"stop_sequences": ["  "]}, "stop_sequences.0"),
    ({"tools": [{"name": "x"}]}, "tools.0.input_schema"),
    (
        {
            "tools": [{"name": "x", "input_schema": SCHEMA}],
            "tool_choice": {"type": "tool", "name": "y"},
        },
        "tool_choice.name",
    ),
    (
        {"tools": [{"name": "x", "input_schema": SCHEMA}], "tool_choice": {"type": "some"}},
        "tool_choice.type",
    ),
    ({"tool_choice": {"type": "any"}}, "tool_choice"),
    ({"tools": [], "tool_choice": {"type": "tool", "name": "x"}}, "tool_choice"),
]


@pytest.mark.parametrize(("fields", "place"), FAULTS)
def test_fault_is_named_by_its_place(fields: dict[str, Any], place: str) -> None:
    with pytest.raises(InvalidMessagesRequestError) as refused:
        convert(**fields)
    assert refused.value.param == place
    assert refused.value.message.startswith(f"{place}: ")


def test_sampling_is_carried_where_the_model_takes_it() -> None:
    converted = convert(reasons=False, temperature=0.5, top_p=0.9, top_k=4, stop_sequences=["END"])
    assert (converted.body["temperature"], converted.body["top_p"]) == (0.5, 0.9)
    assert {"top_k", "stop_sequences", "stop"}.isdisjoint(converted.body)
    assert converted.stop_sequences == ("END",)
    assert dict(converted.losses) == {"top_k": "lost"}
    reasoning = convert(temperature=0.5)
    assert "temperature" not in reasoning.body
    assert dict(reasoning.losses) == {"temperature": "lost"}


@pytest.mark.parametrize(
    ("budget", "effort"), [(2_048, "low"), (2_049, "medium"), (8_192, "medium"), (8_193, "high")]
)
def test_budget_of_thinking_becomes_an_effort(budget: int, effort: str) -> None:
    converted = convert(max_tokens=20_000, thinking={"type": "enabled", "budget_tokens": budget})
    assert converted.body["reasoning"] == {"effort": effort, "summary": "auto"}
    assert converted.body["include"] == ["reasoning.encrypted_content"]
    assert converted.shows_thinking


def test_thinking_of_a_model_that_does_not_reason_is_lost_and_said_so() -> None:
    thinking = {"type": "enabled", "budget_tokens": 1_024}
    converted = convert(reasons=False, max_tokens=2_000, thinking=thinking)
    assert "reasoning" not in converted.body
    assert dict(converted.losses) == {"thinking": "lost"}
    assert "reasoning" not in convert(thinking={"type": "disabled"}).body


@pytest.mark.parametrize(
    ("effort", "expected"), [("low", "low"), ("medium", "medium"), ("max", "high")]
)
def test_effort_is_carried(effort: str, expected: str) -> None:
    converted = convert(thinking={"type": "adaptive"}, output_config={"effort": effort})
    assert converted.body["reasoning"]["effort"] == expected


def test_thinking_comes_back_as_the_same_encrypted_reasoning() -> None:
    items = convert_content(
        {"type": "thinking", "thinking": "Hm.", "signature": "gAAA="},
        {"type": "redacted_thinking", "data": f"{REDACTED_PREFIX}gBBB="},
        {"type": "text", "text": "Hello"},
        role="assistant",
    )
    assert items[0]["encrypted_content"] == "gAAA="
    assert items[0]["summary"] == [{"type": "summary_text", "text": "Hm."}]
    assert items[1] == {"type": "reasoning", "summary": [], "encrypted_content": "gBBB="}
    assert items[2]["content"][0]["type"] == "output_text"


def test_thinking_that_is_omitted_comes_back_all_the_same() -> None:
    converted = convert(thinking={"type": "adaptive", "display": "omitted"})
    assert (converted.body.get("reasoning"), not converted.losses) == (None, True)
    assert converted.body["include"] == ["reasoning.encrypted_content"]
    reasoning = make_reasoning("Hm.", encrypted="gAAA=")
    (block,) = convert_reply(make_response(reasoning), converted)["content"]
    assert block == {"type": "thinking", "thinking": "", "signature": "gAAA="}
    (item, *_) = convert(messages=[{"role": "assistant", "content": [block]}, *HELLO]).body["input"]
    assert (item["encrypted_content"], item["summary"]) == ("gAAA=", [])


def test_request_of_claude_code_is_carried() -> None:
    """The request has what Claude Code sends with a custom base URL."""
    hint = {"type": "ephemeral"}
    system = [{"type": "text", "text": "You are an agent.", "cache_control": hint}]
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "<system-reminder>x</x>"}, TEXT]},
        {"role": "system", "content": [{"type": "text", "text": "# Env", "cache_control": hint}]},
    ]
    tools = [
        {"name": "Bash", "description": "Run it.", "input_schema": SCHEMA},
        {"name": "Later", "description": "", "input_schema": SCHEMA, "defer_loading": True},
    ]
    converted = convert(
        system=system,
        messages=messages,
        tools=tools,
        metadata={"user_id": json.dumps({"device_id": "0" * 64, "session_id": "1"})},
        max_tokens=32_000,
        thinking={"type": "adaptive", "display": "omitted"},
        context_management={"edits": [{"type": "clear_thinking_20251015", "keep": "all"}]},
        output_config={"effort": "high"},
        stream=True,
    )
    body = converted.body
    assert [item["role"] for item in body["input"]] == ["user", "system"]
    assert (body["instructions"], body["reasoning"]) == ("You are an agent.", {"effort": "high"})
    assert [tool["name"] for tool in body["tools"]] == ["Bash", "Later"]
    assert dict(converted.losses) == {
        "tools.1.defer_loading": "lost",
        "context_management": "lost",
    }


def test_thinking_of_another_provider_is_left_out() -> None:
    content = [
        {"type": "thinking", "thinking": "Hm.", "signature": ""},
        {"type": "redacted_thinking", "data": "EmwK"},
    ]
    converted = convert(messages=[{"role": "assistant", "content": content}, *HELLO])
    assert [item["type"] for item in converted.body["input"]] == ["message"]
    assert len(converted.losses) == 2


def test_images_and_documents() -> None:
    (item,) = convert_content(
        {"type": "image", "source": PIXEL},
        {"type": "image", "source": {"type": "url", "url": "https://example.com/a.png"}},
        {"type": "image", "source": {"type": "file", "file_id": "file_1"}},
        {
            "type": "document",
            "title": "Report",
            "source": {"type": "base64", "media_type": "application/pdf", "data": PDF},
        },
        {"type": "document", "source": {"type": "url", "url": "https://example.com/a.pdf"}},
        {
            "type": "document",
            "title": "Notes",
            "source": {"type": "text", "media_type": "text/plain", "data": "Plain."},
        },
    )
    assert item["content"] == [
        {"type": "input_image", "image_url": "data:image/png;base64,aGk=", "detail": "auto"},
        {"type": "input_image", "image_url": "https://example.com/a.png", "detail": "auto"},
        {"type": "input_image", "file_id": "file_1"},
        {
            "type": "input_file",
            "filename": "Report.pdf",
            "file_data": "data:application/pdf;base64," + PDF,
        },
        {"type": "input_file", "file_url": "https://example.com/a.pdf"},
        {"type": "input_text", "text": "Notes\n\nPlain."},
    ]


USE = {"type": "tool_use", "id": "toolu_1", "name": "get", "input": {"city": "Paris"}}


def make_turns(*results: Any, uses: tuple[Any, ...] = (USE,)) -> list[dict[str, Any]]:
    return [
        *HELLO,
        {"role": "assistant", "content": list(uses)},
        {"role": "user", "content": list(results)},
    ]


def test_tool_use_and_its_result_are_paired() -> None:
    result = {
        "type": "tool_result",
        "tool_use_id": "toolu_1",
        "content": [{"type": "text", "text": "Sunny"}, {"type": "image", "source": PIXEL}],
    }
    items = convert(messages=make_turns(result)).body["input"]
    assert items[1] == {
        "type": "function_call",
        "id": "fc_toolu_1",
        "call_id": "toolu_1",
        "name": "get",
        "arguments": '{"city":"Paris"}',
        "status": "completed",
    }
    assert items[2]["call_id"] == "toolu_1"
    assert [part["type"] for part in items[2]["output"]] == ["input_text", "input_image"]


def test_failed_tool_says_so_in_its_text() -> None:
    result = {"type": "tool_result", "tool_use_id": "toolu_1", "content": "No.", "is_error": True}
    converted = convert(messages=make_turns(result))
    assert converted.body["input"][2]["output"] == "[error] No."
    assert dict(converted.losses) == {"messages.2.content.0.is_error": "approximated"}


@pytest.mark.parametrize(
    ("messages", "text"),
    [
        (make_turns({"type": "text", "text": "x"}), "`tool_use` ids were found without"),
        (make_turns()[:2], "`tool_use` ids were found without"),
        (
            make_turns({"type": "tool_result", "tool_use_id": "toolu_9", "content": ""}),
            "unexpected `tool_use_id` found in `tool_result` blocks: toolu_9",
        ),
        (make_turns(uses=(USE, USE)), "`tool_use` ids must be unique"),
        (
            make_turns(*[{"type": "tool_result", "tool_use_id": "toolu_1"}] * 2),
            "Found multiple `tool_result` blocks with id: toolu_1",
        ),
    ],
)
def test_orphans_and_doubles_are_refused(messages: list[Any], text: str) -> None:
    with pytest.raises(InvalidMessagesRequestError, match=text):
        convert(messages=messages)


def convert_blocks(*blocks: Any, role: str = "user") -> ConvertedRequest:
    return convert(messages=[*HELLO, {"role": role, "content": list(blocks)}])


TEXT = {"type": "text", "text": "x"}
AT = "messages.1.content.0"


@pytest.mark.parametrize(
    ("block", "role", "message"),
    [
        (TEXT | {"text": " \n"}, "user", f"{AT}: text content blocks must contain non-whitespace"),
        (TEXT | {"text": 5}, "user", f"{AT}.text: Input should be a valid string"),
        (TEXT | {"cache_control": {"type": "x"}}, "user", f"{AT}.cache_control.type: "),
        (
            TEXT | {"cache_control": {"type": "ephemeral", "ttl": "2h"}},
            "user",
            f"{AT}.cache_control.ttl: ",
        ),
        ({"type": "image", "source": 5}, "user", f"{AT}.source: Input should be an object"),
        (
            {"type": "image", "source": PIXEL | {"data": "data:image/png;base64,aGk="}},
            "user",
            f"{AT}.source.data: Invalid base64 data",
        ),
        (make_image(b"x" * 4_000_000), "user", f"{AT}.source.data: image exceeds 5 MB maximum: "),
        (
            make_image(make_png(8_001, 9)),
            "user",
            f"{AT}.source.data: At least one of the image dimensions exceed max allowed size: 8000",
        ),
        (
            make_image(make_png(9, 9), "image/jpeg"),
            "user",
            f"{AT}.source.data: The image was specified using the image/jpeg media type, but",
        ),
        (
            {
                "type": "document",
                "source": {"type": "base64", "media_type": "application/pdf", "data": "aGVsbG8="},
            },
            "user",
            f"{AT}.source.data: The PDF specified was not valid.",
        ),
        (USE | {"id": "a.b"}, "assistant", f"{AT}.id: String should match pattern "),
        (USE | {"name": "x" * 201}, "assistant", f"{AT}.name: String should have at most 200"),
        (USE | {"input": "{}"}, "assistant", f"{AT}.input: Input should be an object"),
        (TEXT | {"text": "x "}, "assistant", "messages: final assistant content cannot end with"),
        (USE, "user", f"{AT}: `tool_use` blocks can not be in `user` messages"),
        (USE, "system", f"{AT}: `tool_use` blocks can not be in `system` messages"),
    ],
)
def test_malformed_block_is_named(block: dict[str, Any], role: str, message: str) -> None:
    with pytest.raises(InvalidMessagesRequestError) as refused:
        convert_blocks(block, role=role)
    assert refused.value.message.startswith(message)


def test_unknown_and_lossy_parts_of_blocks_are_reported() -> None:
    """A hint for a cache, an empty list and a null lose nothing."""
    converted = convert_blocks(
        TEXT | {"cache_control": {"type": "ephemeral"}, "citations": None, "future": None},
        TEXT | {"future": 1},
        {"type": "image", "source": PIXEL, "transformations": {"oversized": "keep"}},
        {"type": "document", "source": {"type": "text", "data": "x"}, "future": []},
    )
    assert dict(converted.losses) == {
        "messages.1.content.1.future": "lost",
        "messages.1.content.2.transformations": "lost",
        "messages.1.content.3.future": "lost",
    }
    cited = convert_blocks(TEXT | {"citations": [{"type": "char_location"}]}, role="assistant")
    assert ("messages.1.content.0.citations", "lost") in list(cited.losses)
    called = USE | {"caller": {"type": "direct"}}
    result = {"type": "tool_result", "tool_use_id": "toolu_1"}
    assert not convert(messages=make_turns(result, uses=(called,))).losses
    called = USE | {"caller": {"type": "code_execution_20250825", "tool_id": "x"}}
    assert convert(messages=make_turns(result, uses=(called,))).losses
    tool = {"name": "a", "input_schema": SCHEMA, "allowed_callers": ["direct"], "future": 1}
    settings: dict[str, Any] = {
        "tools": [tool],
        "metadata": {"x": 1},
        "output_config": {"effort": "max", "y": 1},
    }
    assert dict(convert(**settings).losses) == {
        "tools.0.future": "lost",
        "metadata.x": "lost",
        "output_config.y": "lost",
        "output_config.effort": "approximated",
    }
    between = convert(thinking={"type": "between_tools"})
    assert dict(between.losses) == {"thinking.type": "approximated"}
    assert not between.shows_thinking


def test_messages_of_the_system_are_carried() -> None:
    messages = [*HELLO, {"role": "system", "content": "Be brief."}]
    converted = convert(messages=messages)
    assert converted.body["input"][1] == {
        "type": "message",
        "role": "system",
        "content": [{"type": "input_text", "text": "Be brief."}],
    }
    assert not converted.losses
    with pytest.raises(
        InvalidMessagesRequestError, match=r"messages\.1: `tool_use` ids were found"
    ):
        convert(messages=[*make_turns()[:2], messages[1], *make_turns({"type": "text"})[2:]])


def test_ids_of_calls_are_short_enough_for_openai() -> None:
    long = "toolu_" + "x" * 90
    uses = (USE | {"id": long},)
    result = {"type": "tool_result", "tool_use_id": long, "content": "x"}
    call, output = convert(messages=make_turns(result, uses=uses)).body["input"][1:]
    assert call["call_id"] == output["call_id"]
    assert max(len(call["call_id"]), len(call["id"])) <= 64


@pytest.mark.parametrize(
    ("tools", "message"),
    [
        ([{"name": "a b", "input_schema": SCHEMA}], "tools.0.name: String should match pattern"),
        ([{"name": "x" * 129, "input_schema": SCHEMA}], "tools.0.name: String should have at most"),
        ([{"name": "a", "input_schema": EMPTY}], "tools.0.input_schema.type: Field required"),
        ([{"name": "a", "input_schema": SCHEMA}] * 2, "tools: Tool names must be unique."),
        ([5], "tools.0: Input should be an object"),
    ],
)
def test_malformed_tool_is_named(tools: list[Any], message: str) -> None:
    with pytest.raises(InvalidMessagesRequestError) as refused:
        convert(tools=tools)
    assert refused.value.message.startswith(message)


def test_tools_and_choice() -> None:
    schema = {"type": "object", "properties": {"city": {"type": "string"}}}
    tools = [
        {"name": "get", "description": "Get it.", "input_schema": schema},
        {
            "type": "web_search_20250305",
            "name": "web_search",
            "max_uses": 3,
            "allowed_domains": ["example.com"],
            "user_location": {"type": "approximate", "city": "Paris"},
        },
    ]
    choice = {"type": "tool", "name": "get", "disable_parallel_tool_use": True}
    converted = convert(tools=tools, tool_choice=choice)
    assert converted.body["tools"] == [
        {
            "type": "function",
            "name": "get",
            "description": "Get it.",
            "parameters": schema,
            "strict": False,
        },
        {
            "type": "web_search",
            "user_location": {"type": "approximate", "city": "Paris"},
            "filters": {"allowed_domains": ["example.com"]},
        },
    ]
    assert converted.body["tool_choice"] == {"type": "function", "name": "get"}
    assert converted.body["parallel_tool_calls"] is False
    assert converted.body["max_tool_calls"] == 3
    assert list(converted.losses) == []


def test_choice_that_asks_for_no_tool_needs_none() -> None:
    for kind in ("auto", "none"):
        assert "tool_choice" not in convert(tool_choice={"type": kind}).body


@pytest.mark.parametrize(("kind", "expected"), [("any", "required"), ("none", "none")])
def test_other_choices(kind: str, expected: str) -> None:
    tools: list[Any] = [{"name": "get", "input_schema": SCHEMA}]
    assert convert(tools=tools, tool_choice={"type": kind}).body["tool_choice"] == expected


def test_code_execution_is_carried_and_other_server_tools_are_refused() -> None:
    tools = [{"type": "code_execution_20250825", "name": "code_execution"}]
    assert convert(tools=tools).body["tools"] == [
        {"type": "code_interpreter", "container": {"type": "auto"}}
    ]
    for kind in ("bash_20250124", "computer_20250124", "web_fetch_20250910", "memory_20250818"):
        with pytest.raises(UnsupportedServerToolError):
            convert(tools=[{"type": kind, "name": "x"}])


def test_long_name_of_a_tool_is_shortened_everywhere_and_found_again() -> None:
    name = "mcp__" + "server_" * 12 + "tool"
    use = {**USE, "name": name}
    result = {"type": "tool_result", "tool_use_id": "toolu_1"}
    converted = convert(
        messages=make_turns(result, uses=(use,)),
        tools=[{"name": name, "input_schema": SCHEMA}],
        tool_choice={"type": "tool", "name": name},
    )
    short = converted.body["tools"][0]["name"]
    assert len(short) == 64
    assert converted.body["input"][1]["name"] == short
    assert converted.body["tool_choice"]["name"] == short
    assert converted.tool_names == {short: name}


def test_structured_output_is_carried() -> None:
    wanted = {"type": "json_schema", "schema": {"type": "object"}}
    both: list[dict[str, Any]] = [{"output_config": {"format": wanted}}, {"output_format": wanted}]
    for fields in both:
        body = convert_request(BASE | fields).body
        assert body["text"]["format"]["schema"] == {"type": "object"}


@pytest.mark.parametrize(
    ("tier", "expected"),
    [
        ("auto", "auto"),
        ("standard", "default"),
        ("standard_only", "default"),
        ("priority", "priority"),
        ("batch", "flex"),
    ],
)
def test_service_tier(tier: str, expected: str) -> None:
    assert convert(service_tier=tier).body["service_tier"] == expected


def test_unknown_tier_is_lost_and_said_so() -> None:
    converted = convert(service_tier="gold")
    assert "service_tier" not in converted.body
    assert dict(converted.losses) == {"service_tier": "lost"}


def test_user_id_is_an_identifier_of_at_most_64_characters() -> None:
    assert convert(metadata={"user_id": "u_1"}).body["safety_identifier"] == "u_1"
    long = convert(metadata={"user_id": "u" * 200}).body["safety_identifier"]
    assert len(long) == 64
    assert long != "u" * 64


def test_unknown_field_and_prefill_are_reported() -> None:
    converted = convert(
        messages=[*HELLO, {"role": "assistant", "content": "{"}], speed="fast", container="c_1"
    )
    assert dict(converted.losses) == {
        "messages.1": "approximated",
        "speed": "lost",
        "container": "lost",
    }


def test_history_of_server_tools_is_kept_as_text() -> None:
    (item, _) = convert_content(
        {"type": "server_tool_use", "id": "s_1", "name": "web_search", "input": {"query": "x"}},
        {"type": "text", "text": "Found."},
        role="assistant",
    )
    assert item["content"][0]["text"].startswith("[server_tool_use] {")
    assert item["content"][1]["text"] == "Found."


def test_tiny_limit_is_raised_to_what_responses_accepts() -> None:
    converted = convert(max_tokens=1)
    assert converted.body["max_output_tokens"] == 16
    assert dict(converted.losses) == {"max_tokens": "approximated"}
