"""Every field of both specifications is carried, listed as lost, or refused by its place.

The fields are those of the official SDKs' types, so a new version of an SDK brings new ones.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any, NamedTuple

import pytest
from anthropic.types.message_create_params import MessageCreateParamsNonStreaming
from openai.types.chat import ChatCompletion
from openai.types.chat.completion_create_params import CompletionCreateParamsNonStreaming
from openai.types.responses import Response
from openai.types.responses.response_create_params import ResponseCreateParamsNonStreaming

from headgate.llm.convert.chat_to_responses import losses as chat_to_responses
from headgate.llm.convert.chat_to_responses import reply as chat_reply
from headgate.llm.convert.chat_to_responses import request as chat_request
from headgate.llm.convert.losses import Handling, Rule
from headgate.llm.convert.messages_to_responses import losses as messages_to_responses
from headgate.llm.convert.messages_to_responses import reply as messages_reply
from headgate.llm.convert.messages_to_responses import request as messages_request
from headgate.llm.convert.responses_to_chat import losses as responses_to_chat
from headgate.llm.convert.responses_to_chat import reply as responses_reply
from headgate.llm.convert.responses_to_chat import request as responses_request
from tests.fakes.fidelity import Converted, check_answer, check_request, generalize
from tests.fakes.schema_samples import SampleMaker

Fields = dict[str, Any]
FUNCTION: Fields = {"type": "function", "name": "get", "parameters": {}, "strict": False}
CUSTOM: Fields = {"type": "custom", "name": "patch"}


class Pair(NamedTuple):
    """Describe a conversion: the type of its requests, values that its fields need, what completes
    a sample, and where a table's row says that a value is ignored or applied."""

    kind: Any
    fixed: Mapping[str, list[Any]]
    complete: Callable[[Fields], Fields]
    convert: Callable[[Fields], Converted]
    rules: Mapping[str, Rule]
    untold: Mapping[str, Collection[str]]
    refused: Collection[str]


def complete_messages(fields: Fields) -> Fields:
    """Give tool uses their results, and results their uses."""
    messages: list[Fields] = []
    for message in fields["messages"]:
        content = message["content"]
        block: Fields = {} if isinstance(content, str) else content[0]
        if block.get("type") == "tool_result":
            use: Fields = {
                "type": "tool_use",
                "id": block["tool_use_id"],
                "name": "get",
                "input": {},
            }
            messages.append({"role": "assistant", "content": [use]})
        if block.get("type") in ("tool_use", "thinking", "redacted_thinking"):
            message = {**message, "role": "assistant"}
        messages.append(message)
        if block.get("type") == "tool_use":
            result: Fields = {"type": "tool_result", "tool_use_id": block["id"]}
            messages.append({"role": "user", "content": [result]})
    fields = {**fields, "messages": messages}
    if "tool_choice" in fields:
        fields["tools"] = [{"name": "get", "input_schema": {"type": "object"}}]
    return fields


def convert_messages(fields: Fields) -> Converted:
    converted = messages_request.convert_request(fields, reasons=None)
    output = converted.body, converted.stop_sequences, converted.shows_thinking
    return output, dict(converted.losses)


def complete_responses(fields: Fields) -> Fields:
    """Give calls their outputs, outputs their calls, parts what one of their fields must have."""
    fields = {"model": "llama", "input": "x", **fields}
    items: str | list[Fields] = fields["input"]
    if not isinstance(items, str):
        fields["input"] = [each for item in items for each in complete_item(item)]
    if "stream_options" in fields:
        fields["stream"] = True
    if "tool_choice" in fields or "parallel_tool_calls" in fields:
        fields["tools"] = [FUNCTION, CUSTOM]
    return fields


def complete_item(item: Fields) -> list[Fields]:
    kind = item.get("type", "")
    for name in ("content", "output"):
        if isinstance(item.get(name), list):
            item = {**item, name: [complete_part(each) for each in item[name]]}
    if kind in ("function_call_output", "custom_tool_call_output"):
        item = {"call_id": "call", **item}
        call = {"type": kind.removesuffix("_output"), "call_id": item["call_id"], "name": "get"}
        return [{**call, "arguments" if kind.startswith("function") else "input": ""}, item]
    if kind in ("function_call", "custom_tool_call"):
        return [item, {"type": f"{kind}_output", "call_id": item["call_id"], "output": ""}]
    return [item]


def complete_part(part: Fields) -> Fields:
    if part.get("type") == "input_image" and "file_id" not in part:
        return {"image_url": "https://a.test", **part}
    if part.get("type") == "input_file" and not part.keys() & {"file_id", "file_url"}:
        return {"file_data": "data:", **part}
    return part


def convert_responses(fields: Fields) -> Converted:
    converted = responses_request.convert_request(fields)
    return converted.body, dict(converted.losses)


def complete_chat(fields: Fields) -> Fields:
    """Give calls their outputs, outputs their calls, and choices of tools the tools."""
    fields = {"model": "gpt", **fields}
    messages: list[Fields] = fields.get("messages", [{"role": "user", "content": "x"}])
    fields["messages"] = [each for message in messages for each in complete_message(message)]
    if "tool_choice" in fields or "parallel_tool_calls" in fields:
        fields["tools"] = CHAT_TOOLS
    if "function_call" in fields:
        fields["functions"] = [{"name": "get"}]
    if "stream_options" in fields:
        fields["stream"] = True
    return fields


def complete_message(message: Fields) -> list[Fields]:
    function = {"name": "get", "arguments": ""}
    if message["role"] == "tool":
        call = {"id": message["tool_call_id"], "type": "function", "function": function}
        return [{"role": "assistant", "tool_calls": [call]}, message]
    if message["role"] == "function":
        call = {**function, "name": message["name"]}
        return [{"role": "assistant", "function_call": call}, message]
    said = {"content", "refusal", "tool_calls", "function_call"}
    if message["role"] == "assistant" and not message.keys() & said:
        message = {**message, "content": "text-1-end"}
    outputs: list[Fields] = [
        {"role": "tool", "tool_call_id": call["id"], "content": ""}
        for call in message.get("tool_calls", ())
    ]
    return [message, *outputs]


def convert_chat(fields: Fields) -> Converted:
    converted = chat_request.convert_request(fields)
    output = converted.body, converted.stop, converted.includes_usage, converted.names_functions
    return output, dict(converted.losses)


CHAT_TOOLS: list[Fields] = [
    {"type": "function", "function": {"name": "get"}},
    {"type": "custom", "custom": {"name": "patch"}},
]
PAIRS = {
    "chat to responses": Pair(
        CompletionCreateParamsNonStreaming,
        {
            "max_tokens": [4_000],
            "max_completion_tokens": [4_000],
            "n": [1],
            "ChatCompletionFunctionCallOptionParam.name": ["get"],
            "ChatCompletionNamedToolChoiceParam.function": [{"name": "get"}],
            "ChatCompletionNamedToolChoiceCustomParam.custom": [{"name": "patch"}],
            "ChatCompletionAllowedToolsParam.tools": [CHAT_TOOLS],
        },
        complete_chat,
        convert_chat,
        chat_to_responses.RULES,
        {"values that are the default": ["modalities.*", "web_search_options.user_location.type"]},
        ["messages.*.content.*", "modalities"],
    ),
    "messages to responses": Pair(
        MessageCreateParamsNonStreaming,
        {
            "model": ["gpt"],
            "max_tokens": [4_000],
            "budget_tokens": [1_500],
            "temperature": [0.5],
            "top_p": [0.5],
            "stop_sequences": [["stop"]],
            "Base64ImageSourceParam.data": ["aGk="],
            "Base64PDFSourceParam.data": ["JVBERi0x"],
            "ToolParam.name": ["get"],
            "ToolChoiceToolParam.name": ["get"],
        },
        complete_messages,
        convert_messages,
        messages_to_responses.RULES,
        {
            "cache_control": ["cache_control", "*.cache_control"],
            "dates and names of server tools": ["tools.*.type", "tools.*.name"],
            "values that are the default": [
                "*.caller.type",
                "*.allowed_callers.*",
            ],
        },
        [
            # Blocks that the other role has.
            "messages.*.content.*",
            "tools.*.input_schema.type",
            "tools.*.type",
        ],
    ),
    "responses to chat": Pair(
        ResponseCreateParamsNonStreaming,
        {
            "model": ["llama"],
            "FunctionToolParam.name": ["get"],
            "ToolChoiceFunctionParam.name": ["get"],
            "ToolChoiceCustomParam.name": ["patch"],
            "ToolChoiceAllowedParam.tools": [[{"type": "function", "name": "get"}, CUSTOM]],
        },
        complete_responses,
        convert_responses,
        responses_to_chat.RULES,
        {
            "metadata": ["metadata"],
            "ids and states of items": ["input.*.id", "input.*.status"],
            "name of an output": ["input.*.name", "input.*.namespace"],
            "logprobs": ["input.*.content.*.logprobs"],
        },
        [
            "background",
            "conversation",
            "input.*",
            "input.*.content.*.file_id",
            "input.*.content.*.file_url",
            "input.*.output.*.file_id",
            "input.*.output.*.file_url",
            "input.*.tools.*.type",
            "previous_response_id",
            "prompt",
            "store",
            "tool_choice.type",
            "tools.*.type",
        ],
    ),
}


@pytest.mark.parametrize("name", PAIRS)
def test_no_field_is_dropped_silently(name: str) -> None:
    pair = PAIRS[name]
    for rule in pair.untold:
        assert pair.rules[rule].handling in (Handling.IGNORED, Handling.APPLIED)
    untold = [each for patterns in pair.untold.values() for each in patterns]
    silent: dict[str, Fields] = {}
    refused: dict[str, Fields] = {}
    count = 0
    for sample in SampleMaker(pair.fixed).make_all(pair.kind):
        request = pair.complete(sample.value)
        outcome = check_request(pair.convert, request, untold)
        silent |= {generalize(place): request for place in outcome.silent}
        if outcome.refused:
            refused.setdefault(outcome.refused, request)
        count += 1
    assert not silent
    assert sorted(refused) == sorted(pair.refused)
    assert count > 100


class Answers(NamedTuple):
    """Describe how answers are converted back. `tested` are places whose values are words of one
    API for those of the other: other tests look at them."""

    kind: Any
    fixed: Mapping[str, list[Any]]
    complete: Callable[[Fields], Fields]
    convert: Callable[[Fields], Any]
    rules: Mapping[str, Rule]
    tested: Collection[str]


def complete_completion(fields: Fields) -> Fields:
    """Give the message a text, to which citations and probabilities belong."""
    choice = fields["choices"][0]
    message = {"content": "text-1-end", **choice["message"]}
    return {**fields, "choices": [{**choice, "message": message}]}


def keep(fields: Fields) -> Fields:
    return fields


def convert_response(fields: Fields) -> Any:
    return messages_reply.convert_reply(fields, MESSAGES)


def convert_response_for_chat(fields: Fields) -> Any:
    return chat_reply.convert_reply(fields, CHAT)


def convert_completion(fields: Fields) -> Any:
    return responses_reply.convert_reply(fields, RESPONSES)


MESSAGES = messages_request.convert_request(
    {
        "model": "gpt",
        "max_tokens": 1_000,
        "messages": [{"role": "user", "content": "x"}],
        "thinking": {"type": "adaptive"},
    }
)
CHAT = chat_request.convert_request(
    {"model": "gpt", "messages": [{"role": "user", "content": "x"}], "logprobs": True}
)
RESPONSES = responses_request.convert_request(
    {
        "model": "llama",
        "input": "x",
        "include": ["message.output_text.logprobs", "reasoning.encrypted_content"],
    }
)
RESPONSE_FIELDS: Mapping[str, list[Any]] = {
    "object": ["response"],
    "status": ["completed"],
    "error": [None],
    "arguments": ['{"a":"text-1-end"}'],
    "cached_tokens": [1],
    # What repeats the request is ignored whole.
    "instructions": ["text-1-end"],
    "tools": [[]],
    "tool_choice": ["auto"],
    "prompt": [{"id": "text-1-end"}],
}
ANSWERS = {
    "chat to responses": Answers(
        Response,
        RESPONSE_FIELDS,
        keep,
        convert_response_for_chat,
        chat_to_responses.ANSWERS,
        ["status", "incomplete_details"],
    ),
    "messages to responses": Answers(
        Response,
        RESPONSE_FIELDS,
        keep,
        convert_response,
        messages_to_responses.ANSWERS,
        ["status", "incomplete_details"],
    ),
    "responses to chat": Answers(
        ChatCompletion,
        {"Choice.index": [0]},
        complete_completion,
        convert_completion,
        responses_to_chat.ANSWERS,
        ["choices.*.finish_reason"],
    ),
}


@pytest.mark.parametrize("name", ANSWERS)
def test_no_field_of_an_answer_is_dropped_without_a_row(name: str) -> None:
    answers = ANSWERS[name]
    told = [place for place, rule in answers.rules.items() if rule.handling != Handling.CARRIED]
    silent: dict[str, Fields] = {}
    for sample in SampleMaker(answers.fixed).make_all(answers.kind):
        answer = answers.complete(sample.value)
        for place in check_answer(answers.convert, answer, [*told, *answers.tested]):
            silent.setdefault(place, answer)
    assert not silent
