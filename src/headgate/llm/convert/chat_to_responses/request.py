"""Convert a chat completion's request to a Responses request."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.llm.convert.chat_to_responses.content import MessageConverter
from headgate.llm.convert.chat_to_responses.losses import RULES
from headgate.llm.convert.chat_to_responses.refusals import refuse
from headgate.llm.convert.chat_to_responses.tools import convert_tools
from headgate.llm.convert.losses import Losses
from headgate.llm.convert.openai_validation import (
    Fields,
    check_type,
    fail,
    read,
    read_choice,
    read_elements,
    read_object,
    read_settings,
    read_text,
)

OUTPUT_TOKENS_MIN = 16
"""The least output limit that Responses accepts."""
STOP_SEQUENCES_MAX = 4
SAME = (
    "model",
    "metadata",
    "moderation",
    "prompt_cache_key",
    "prompt_cache_options",
    "prompt_cache_retention",
    "safety_identifier",
    "service_tier",
    "stream",
    "temperature",
    "top_logprobs",
    "top_p",
    "user",
)
"""Fields of both APIs with one meaning; the provider judges their values."""
LOST = ("frequency_penalty", "presence_penalty", "logit_bias", "seed", "prediction", "audio")
DEFAULTS: dict[str, tuple[Any, ...]] = {
    "frequency_penalty": (None, 0),
    "presence_penalty": (None, 0),
    "logit_bias": (None, {}),
}
"""Values that change nothing, by field; of other fields null."""
KNOWN = frozenset(
    {
        *SAME,
        *LOST,
        "messages",
        "max_completion_tokens",
        "max_tokens",
        "n",
        "stop",
        "store",
        "logprobs",
        "reasoning_effort",
        "verbosity",
        "response_format",
        "modalities",
        "stream_options",
        "tools",
        "tool_choice",
        "parallel_tool_calls",
        "functions",
        "function_call",
        "web_search_options",
    }
)


class ConvertedCompletion(msgspec.Struct, frozen=True):
    """Hold a Responses request, and what is needed to convert its answer back.

    `includes_usage` says whether the last chunk of a stream has the usage, `names_functions`
    whether a call of a function is told as the deprecated `function_call`, and `is_json` whether
    the answer is JSON, with which nothing may be mixed.
    """

    body: dict[str, Any]
    model: str
    stop: tuple[str, ...] = ()
    includes_usage: bool = False
    names_functions: bool = False
    is_json: bool = False
    losses: Losses = msgspec.field(default_factory=lambda: Losses(RULES))


def convert_request(fields: Fields) -> ConvertedCompletion:
    """Return a chat completion's request as one of Responses.

    Raise `InvalidRequestError` for what no API accepts, and `NotInResponsesError` for what
    a response cannot be.
    """
    losses = Losses(RULES)
    body = {name: fields[name] for name in SAME if fields.get(name) is not None}
    body["model"] = read_text(fields, "model", "")
    body |= _convert_limit(fields, losses)
    body |= convert_tools(fields, losses)
    body["input"] = _convert_messages(fields, losses)
    _check_choices(fields)
    _convert_store(fields, body, losses)
    _convert_format(fields, body, losses)
    if fields.get("reasoning_effort") is not None:
        body["reasoning"] = {"effort": fields["reasoning_effort"]}
    if fields.get("logprobs"):
        body["include"] = ["message.output_text.logprobs"]
    includes_usage = _convert_stream_options(fields, body, losses)
    for name in LOST:
        if fields.get(name) not in DEFAULTS.get(name, (None,)):
            losses.add(name, name)
    losses.add_rest(fields, KNOWN, "")
    return ConvertedCompletion(
        body,
        body["model"],
        _read_stop(fields),
        includes_usage,
        bool(fields.get("functions")) and not fields.get("tools"),
        body.get("text", {}).get("format", {}).get("type") in ("json_schema", "json_object"),
        losses,
    )


def _convert_messages(fields: Fields, losses: Losses) -> list[dict[str, Any]]:
    messages = check_type(read(fields, "messages", ""), list, "messages")
    if not messages:
        fail(
            "messages",
            "Invalid 'messages': empty array. Expected an array with minimum length 1, but got an "
            "empty array instead.",
        )
    converter = MessageConverter(losses)
    return [item for index, each in enumerate(messages) for item in converter.convert(each, index)]


def _convert_limit(fields: Fields, losses: Losses) -> dict[str, Any]:
    names = ("max_completion_tokens", "max_tokens")
    stated = [name for name in names if fields.get(name) is not None]
    if not stated:
        return {}
    if len(stated) > 1:
        losses.add("max_tokens beside max_completion_tokens", "max_tokens")
    limit = fields[stated[0]]
    # What is not positive is left to the provider to refuse.
    if isinstance(limit, int) and 0 < limit < OUTPUT_TOKENS_MIN:
        losses.add("max_tokens<16", stated[0])
        limit = OUTPUT_TOKENS_MIN
    return {"max_output_tokens": limit}


def _check_choices(fields: Fields) -> None:
    """Refuse what one response cannot be: several answers, or audio."""
    if fields.get("n") not in (None, 1):
        refuse("n", "Send a request for each answer.")
    if "audio" in read_elements(fields, "modalities"):
        refuse("modalities", "Ask for text only.")


def _convert_store(fields: Fields, body: dict[str, Any], losses: Losses) -> None:
    # Left out, Responses takes it for true, and a chat completion for false.
    body["store"] = fields.get("store") is True
    if body["store"]:
        losses.add("store", "store")


def _convert_format(fields: Fields, body: dict[str, Any], losses: Losses) -> None:
    text: dict[str, Any] = {}
    if fields.get("verbosity") is not None:
        text["verbosity"] = fields["verbosity"]
    place = "response_format"
    wanted = read_settings(fields, place)
    if wanted:
        kind = read_choice(wanted, "type", place, ("text", "json_object", "json_schema"))
        losses.add_rest(wanted, {"type", "json_schema"}, place)
        text["format"] = {"type": kind}
        if kind == "json_schema":
            schema = read_object(wanted, "json_schema", place)
            place = f"{place}.json_schema"
            names = ("name", "description", "schema", "strict")
            losses.add_rest(schema, names, place)
            read_text(schema, "name", place)
            given = {name: schema[name] for name in names if schema.get(name) is not None}
            text["format"] |= {"schema": {}, **given}
    if text:
        body["text"] = text


def _convert_stream_options(fields: Fields, body: dict[str, Any], losses: Losses) -> bool:
    """Set `stream_options`, and return whether the caller wants to see the usage."""
    options = read_settings(fields, "stream_options")
    names = {"include_usage", "include_obfuscation"}
    losses.add_rest(options, names, "stream_options")
    if options.get("include_obfuscation") is not None:
        body["stream_options"] = {"include_obfuscation": options["include_obfuscation"]}
    return options.get("include_usage") is True


def _read_stop(fields: Fields) -> tuple[str, ...]:
    """Return the stop sequences. Responses has none, so that the gateway cuts the answer."""
    stop = fields.get("stop")
    if stop is None:
        return ()
    if isinstance(stop, str):
        return (stop,) if stop else ()
    sequences = check_type(stop, list, "stop")
    if len(sequences) > STOP_SEQUENCES_MAX:
        fail(
            "stop",
            f"Invalid 'stop': array too long. Expected an array with maximum length "
            f"{STOP_SEQUENCES_MAX}, but got an array with length {len(sequences)} instead.",
        )
    for number, each in enumerate(sequences):
        check_type(each, str, f"stop.{number}")
    return tuple(each for each in sequences if each)
