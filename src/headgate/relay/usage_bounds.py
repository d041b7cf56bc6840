"""What a request can lead to at most: what is held for it, and what usage it cannot have."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import msgspec

from headgate.llm.request import JsonRequest, count_prompts, read_field
from headgate.llm.tools import is_of_container, list_fees
from headgate.llm.usage import Usage
from headgate.relay.ports import Model

UNBOUNDED_FIELDS = ("previous_response_id", "conversation", "prompt", "file_ids")
"""Fields that bring input from elsewhere, so that the body's size bounds nothing."""
UNBOUNDED_MARKERS = (
    b'"image',
    b'"input_image',
    b'"input_file',
    b'"file',
    b'"input_audio',
    b"_search",
    b'"mcp"',
    b'"code_interpreter"',
)
"""Parts whose tokens are not bounded by their bytes: images by address, files, hosted tools."""
_ESCAPED_MARKER = re.compile(rb"(?<!\\)(?:\\\\)*+\\u00(?:[46][0-9a-fA-F]|[57][0-9a-eA-E]|5[fF])")
"""A letter or `_` written as an escape, which no encoder does: any of the marks may be meant."""
TOOL_CALLS_MAX = 10_000
"""More calls of tools than any answer has, whatever `max_tool_calls` says."""
TOKENS_MAX = 100_000_000
"""More tokens than one call of any model has, where the catalog does not say."""
AUDIO_MILLISECONDS_MAX = 7 * 24 * 3_600_000
HOSTED_TURNS = 100
"""So often a provider may run tools in one answer, where the request does not say."""
OWN_KEY_MARGIN = 4
"""On an own key nothing is charged, and the catalog's limits may be older than the model: usage
counts up to so many times what they allow."""


def bound_output(body: JsonRequest, model: Model) -> int:
    """The tokens that one answer can have: by the request, the model, or the model's window."""
    ceiling = model.output_tokens_max or model.input_tokens_max
    asked = body.output_tokens_max
    return ceiling if asked is None or asked < 0 else min(asked, ceiling)


def count_answers(body: JsonRequest, fields: Mapping[str, msgspec.Raw]) -> int:
    """How many answers are written and paid for, also those that only compete for being sent."""
    best_of = read_field(fields.get("best_of"))
    wanted = max(1, body.n or 1, best_of if isinstance(best_of, int) else 1)
    return wanted * count_prompts(fields)


def has_several_inputs(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Whether there are texts or tokens in a list, of which each may fill a model's window."""
    for name in ("input", "prompt"):
        value = read_field(fields.get(name))
        if isinstance(value, list) and not all(
            isinstance(each, dict) for each in cast("list[Any]", value)
        ):
            return True
    return False


def has_unbounded_input(body: JsonRequest) -> bool:
    """Whether the input may be larger than the body that asks for it."""
    data = body.body
    return (
        any(name in body.fields for name in UNBOUNDED_FIELDS)
        or any(mark in data for mark in UNBOUNDED_MARKERS)
        or (b"\\u00" in data and _ESCAPED_MARKER.search(data) is not None)
    )


def bound_tool_fees(
    fields: Mapping[str, msgspec.Raw], fees: Mapping[str, int], tool_calls_assumed: int
) -> int:
    """What the tools that a request allows can cost beside tokens, in nano-dollars.

    So many calls as `max_tool_calls` says, else as many as are assumed, each of the dearest tool;
    and a container for each tool that needs one. A stored prompt may bring any tool.
    """
    names = list_fees(read_field(fields.get("tools")))
    if isinstance(read_field(fields.get("prompt")), dict):
        names |= fees.keys()
    calls = count_tool_calls(fields, tool_calls_assumed)
    known = [(name, fees.get(name, 0)) for name in names]
    dearest = max((fee for name, fee in known if not is_of_container(name)), default=0)
    return calls * dearest + sum(fee for name, fee in known if is_of_container(name))


def count_tool_calls(fields: Mapping[str, msgspec.Raw], assumed: int) -> int:
    """How many calls of tools a request allows."""
    asked = read_field(fields.get("max_tool_calls"))
    if not isinstance(asked, int) or isinstance(asked, bool) or asked < 0:
        return assumed
    return min(asked, TOOL_CALLS_MAX)


def find_implausible(
    usage: Usage,
    model: Model | None,
    body: JsonRequest | bytes | AsyncIterator[bytes],
    *,
    is_managed: bool,
) -> str | None:
    """What in a usage no such request can have, in words; None where all is possible.

    The request's own limit of the output counts for managed calls. Where the provider runs tools
    the model reads and writes anew after each of their calls, all of which is in the usage.
    """
    margin = 1 if is_managed else OWN_KEY_MARGIN
    inputs_max = outputs_max = TOKENS_MAX
    if isinstance(body, JsonRequest) and model is not None:
        fields = body.fields
        answers = count_answers(body, fields)
        turns = 1 + max(sum(usage.tool_calls.values()), count_hosted_turns(fields))
        if model.input_tokens_max:
            inputs_max = margin * model.input_tokens_max * turns
            if has_several_inputs(fields):
                inputs_max = max(inputs_max, len(body.body))
        if model.output_tokens_max:
            outputs_max = margin * answers * model.output_tokens_max * turns
        if is_managed and body.output_tokens_max and "prediction" not in fields:
            outputs_max = min(outputs_max, answers * bound_output(body, model) or outputs_max)
    for count, most, what in (
        (usage.input_tokens, inputs_max, "input tokens"),
        (usage.output_tokens, outputs_max, "output tokens"),
        (usage.audio_milliseconds, AUDIO_MILLISECONDS_MAX, "milliseconds of audio"),
    ):
        if count > most:
            return f"{count} {what} were reported, and at most {most} are possible"
    return None


def count_hosted_turns(fields: Mapping[str, msgspec.Raw]) -> int:
    """How many calls of tools without a count in the usage there may be: of those that the
    provider runs, which are all but the client's functions."""
    tools = read_field(fields.get("tools"))
    kinds = {
        cast("dict[str, Any]", tool).get("type")
        for tool in (cast("list[Any]", tools) if isinstance(tools, list) else ())
        if isinstance(tool, dict)
    }
    if not kinds - {"function", "custom"} and "prompt" not in fields:
        return 0
    return count_tool_calls(fields, HOSTED_TURNS)
