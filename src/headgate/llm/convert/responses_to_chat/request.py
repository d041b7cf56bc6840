"""Convert a Responses request to a request of Chat Completions."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec

from headgate.llm.convert.losses import Losses
from headgate.llm.convert.openai_validation import (
    Fields,
    check_type,
    join,
    read,
    read_elements,
    read_optional,
    read_settings,
    read_text,
)
from headgate.llm.convert.responses_to_chat.items import KEPT_NOWHERE, ItemConverter, Message
from headgate.llm.convert.responses_to_chat.losses import RULES
from headgate.llm.convert.responses_to_chat.refusals import refuse
from headgate.llm.convert.responses_to_chat.tools import FunctionNames, ToolConverter

OUTPUT_LIMIT = "max_completion_tokens"
COPIED = (
    "temperature",
    "top_p",
    "parallel_tool_calls",
    "service_tier",
    "prompt_cache_key",
    "prompt_cache_retention",
    "safety_identifier",
    "user",
    "moderation",
)
"""Fields that Chat Completions has by the same names."""
LOST = ("access_programs", "context_management", "image", "max_tool_calls")
STORED = ("previous_response_id", "conversation", "prompt")
ECHOED = (
    "instructions",
    "max_output_tokens",
    "max_tool_calls",
    "metadata",
    "parallel_tool_calls",
    "prompt_cache_key",
    "prompt_cache_retention",
    "reasoning",
    "safety_identifier",
    "service_tier",
    "temperature",
    "text",
    "tool_choice",
    "tools",
    "top_logprobs",
    "top_p",
    "truncation",
    "user",
)
"""Fields that a response repeats from its request."""
KNOWN = frozenset(
    {
        *COPIED,
        *LOST,
        *STORED,
        *ECHOED,
        "background",
        "include",
        "input",
        "model",
        "prompt_cache_options",
        "store",
        "stream",
        "stream_options",
    }
)
LOGPROBS = "message.output_text.logprobs"
ENCRYPTED_REASONING = "reasoning.encrypted_content"


class ChatRequest(msgspec.Struct, frozen=True):
    """Hold a request of Chat Completions, and what is needed to convert its answer back.

    `echo` are the fields of the request that the response repeats. `custom_tools` are the names of
    functions that stand for custom tools.
    """

    body: dict[str, Any]
    model: str
    streams: bool
    echo: Mapping[str, Any]
    names: FunctionNames
    custom_tools: frozenset[str]
    shows_logprobs: bool
    keeps_reasoning: bool
    """Whether the caller asked for reasoning in a form that it can send back."""
    answer_id: str
    """What ids are made from where the provider states none."""
    losses: Losses


def convert_request(
    fields: Fields,
    *,
    output_limit: str = OUTPUT_LIMIT,
    answer_id: str = "unknown",
) -> ChatRequest:
    """Return a Responses request as one of Chat Completions.

    `output_limit` is the provider's name for the limit of output tokens. `answer_id` stands in for
    the id of an answer that has none. Raise `InvalidRequestError`, as `NotInChatCompletionsError`
    for what only Responses has.
    """
    losses, names = Losses(RULES), FunctionNames()
    model = read_text(fields, "model", "")
    streams = bool(read_optional(fields, "stream", "", bool))
    _refuse_state(fields)
    tools = ToolConverter(names, losses)
    if fields.get("tools") is not None:
        tools.add_all(fields["tools"], "tools")
    items = ItemConverter(tools, names, losses)
    body: dict[str, Any] = {"model": model}
    body["messages"] = _convert_input(fields, items)
    _convert_stream(fields, body, losses, streams=streams)
    _convert_limits(fields, body, losses, output_limit)
    _convert_format(fields, items, body, losses)
    _convert_reasoning(fields, items, body, losses)
    _convert_tools(fields, tools, body)
    shows_logprobs = _convert_logprobs(fields, body, losses)
    losses.add_rest(fields, KNOWN, "")
    return ChatRequest(
        body,
        model,
        streams,
        {name: fields[name] for name in ECHOED if fields.get(name) is not None},
        names,
        names.list_custom(),
        shows_logprobs,
        ENCRYPTED_REASONING in read_elements(fields, "include"),
        answer_id,
        losses,
    )


def _refuse_state(fields: Fields) -> None:
    for name in STORED:
        if fields.get(name) is not None:
            refuse(name, KEPT_NOWHERE)
    if read_optional(fields, "store", "", bool):
        refuse("store", "Nothing is kept at this provider: set `store` to false.")
    if read_optional(fields, "background", "", bool):
        refuse("background", "Stream the answer instead.")


def _convert_input(fields: Fields, items: ItemConverter) -> list[Message]:
    given = read(fields, "input", "")
    messages: list[Message] = []
    if instructions := read_optional(fields, "instructions", "", str):
        messages.append({"role": "system", "content": instructions})
    if isinstance(given, str):
        return _join_system([*messages, {"role": "user", "content": given}])
    return _join_system([*messages, *items.convert(check_type(given, list, "input"))])


def _join_system(messages: list[Message]) -> list[Message]:
    """Make one of the system messages at the beginning, since many models take no second one."""
    texts: list[str] = []
    for message in messages:
        if message["role"] != "system" or not isinstance(message["content"], str):
            break
        texts.append(message["content"])
    if len(texts) < 2:
        return messages
    return [{"role": "system", "content": "\n\n".join(texts)}, *messages[len(texts) :]]


def _convert_stream(fields: Fields, body: dict[str, Any], losses: Losses, *, streams: bool) -> None:
    given = read_settings(fields, "stream_options")
    losses.add_rest(given, ("include_obfuscation",), "stream_options")
    if streams:
        body["stream"] = True
        if given.get("include_obfuscation") is not None:
            body["stream_options"] = {"include_obfuscation": given["include_obfuscation"]}


def _convert_limits(
    fields: Fields, body: dict[str, Any], losses: Losses, output_limit: str
) -> None:
    if fields.get("max_output_tokens") is not None:
        body[output_limit] = fields["max_output_tokens"]
    for name in COPIED:
        if fields.get(name) is not None:
            body[name] = fields[name]
    if cache := read_settings(fields, "prompt_cache_options"):
        known = ("mode", "ttl")
        losses.add_rest(cache, known, "prompt_cache_options")
        if kept := {name: cache[name] for name in known if cache.get(name) is not None}:
            body["prompt_cache_options"] = kept
    for name in LOST:
        if fields.get(name) is not None:
            losses.add(name, name)
    if fields.get("truncation") not in (None, "disabled"):
        losses.add("truncation", "truncation")


def _convert_format(
    fields: Fields, items: ItemConverter, body: dict[str, Any], losses: Losses
) -> None:
    text: dict[str, Any] = dict(read_settings(fields, "text"))
    text |= items.text or {}
    losses.add_rest(text, ("format", "verbosity"), "text")
    if text.get("verbosity") is not None:
        body["verbosity"] = text["verbosity"]
    wanted = read_settings(text, "format", "text")
    if not wanted:
        return
    kind = read_text(wanted, "type", "text.format")
    if kind == "json_schema":
        rest = {name: value for name, value in wanted.items() if name != "type"}
        body["response_format"] = {"type": kind, "json_schema": rest}
    elif kind != "text":
        body["response_format"] = dict(wanted)


def _convert_reasoning(
    fields: Fields, items: ItemConverter, body: dict[str, Any], losses: Losses
) -> None:
    reasoning = read_settings(fields, "reasoning")
    effort = items.effort or reasoning.get("effort")
    if effort is not None:
        body["reasoning_effort"] = effort
    for name in ("summary", "generate_summary"):
        if reasoning.get(name) is not None:
            losses.add("reasoning.summary", join("reasoning", name))
    for name, usual in (("context", "auto"), ("mode", "standard")):
        if reasoning.get(name) not in (None, usual):
            losses.add("reasoning", join("reasoning", name))
    known = ("effort", "summary", "generate_summary", "context", "mode")
    losses.add_rest(reasoning, known, "reasoning")


def _convert_tools(fields: Fields, tools: ToolConverter, body: dict[str, Any]) -> None:
    if tools.tools:
        body["tools"] = tools.tools
    if fields.get("tool_choice") is not None:
        body |= tools.convert_choice(fields["tool_choice"])
    if not body.get("tools"):
        # Chat Completions refuses these without tools.
        for name in ("tools", "parallel_tool_calls"):
            body.pop(name, None)


def _convert_logprobs(fields: Fields, body: dict[str, Any], losses: Losses) -> bool:
    """Ask for the probabilities of tokens, and return whether the caller did."""
    include = read_elements(fields, "include")
    for number, each in enumerate(include):
        if each not in (LOGPROBS, ENCRYPTED_REASONING):
            losses.add("include", join("include", number))
    most = fields.get("top_logprobs")
    if not most and LOGPROBS not in include:
        return False
    body["logprobs"] = True
    if most is not None:
        body["top_logprobs"] = most
    return True
