"""Bound what a request can use: for its hold, and to recognize an impossible usage."""

from __future__ import annotations

import math
import re
from collections.abc import AsyncIterator, Mapping
from typing import Any, cast

import msgspec

from headgate.llm.request import JsonRequest, count_prompts, read_field
from headgate.llm.tools import is_of_container, list_fees
from headgate.llm.usage import Usage
from headgate.relay.ports import Model

UNBOUNDED_FIELDS = frozenset({"previous_response_id", "conversation", "prompt", "file_ids"})
"""Fields that bring input from elsewhere, so that the size of the body bounds nothing."""
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
"""Markers of parts whose tokens are not bounded by their bytes: images by URL, files, hosted
tools."""
_ESCAPED_MARKER = re.compile(rb"(?<!\\)(?:\\\\)*+\\u00(?:[46][0-9a-fA-F]|[57][0-9a-eA-E]|5[fF])")
"""A letter or `_` written as an escape, which no encoder does: any of the markers may be hidden."""
TOOL_CALLS_MAX = 10_000
"""More calls of tools than any answer has, whatever `max_tool_calls` says."""
TOKENS_MAX = 100_000_000
"""More tokens than one call of any model has, for models without limits in the catalog."""
AUDIO_MILLISECONDS_MAX = 7 * 24 * 3_600_000
HOSTED_TURNS = 100
"""How often a provider may run tools in one answer where the request sets no maximum."""
OWN_KEY_MARGIN = 4
"""With an organization's own credential nothing is charged, and the catalog's limits may be older
than the model: a usage of up to so many times the limits is accepted."""


def bound_output(body: JsonRequest, model: Model) -> int:
    """Return the most tokens of one answer: by the request, the model, or the model's window."""
    ceiling = model.output_tokens_max or model.input_tokens_max
    asked = body.output_tokens_max
    return ceiling if asked is None or asked < 0 else min(asked, ceiling)


def count_answers(body: JsonRequest, fields: Mapping[str, msgspec.Raw]) -> int:
    """Count the answers that are generated and billed, also those of `best_of` that are not
    returned."""
    wanted = max(1, body.n or 1)
    if "best_of" in fields:
        wanted = max(wanted, read_count(read_field(fields["best_of"])) or 1)
    return wanted * count_prompts(fields) if "prompt" in fields else wanted


def read_count(value: object) -> int | None:
    """Return a number as a lenient server reads it, rounded up: also a fraction, or a text of
    digits. Return None for anything else."""
    if isinstance(value, str):
        return int(value) if value.isascii() and value.strip().isdigit() else None
    return math.ceil(value) if isinstance(value, int | float) else None


def has_several_inputs(fields: Mapping[str, msgspec.Raw]) -> bool:
    """Return whether the input is a list of texts or tokens, each of which may fill a model's
    window."""
    for name in ("input", "prompt"):
        value = read_field(fields[name]) if name in fields else None
        if isinstance(value, list) and not all(
            isinstance(each, dict) for each in cast("list[Any]", value)
        ):
            return True
    return False


def has_unbounded_input(body: JsonRequest, fields: Mapping[str, msgspec.Raw]) -> bool:
    """Return whether the input may be larger than the body."""
    if not UNBOUNDED_FIELDS.isdisjoint(fields):
        return True
    data = body.body
    for mark in UNBOUNDED_MARKERS:
        if mark in data:
            return True
    return b"\\u00" in data and _ESCAPED_MARKER.search(data) is not None


def bound_tool_fees(
    fields: Mapping[str, msgspec.Raw], fees: Mapping[str, int], tool_calls_assumed: int
) -> int:
    """Return the most that the tools of a request can cost beside tokens, in nano-dollars.

    It counts `max_tool_calls` calls, or `tool_calls_assumed`, each at the highest fee; and a
    container for each tool that needs one. A stored prompt may use any tool.
    """
    if "tools" not in fields and "prompt" not in fields:
        return 0
    names = list_fees(read_field(fields.get("tools")))
    if isinstance(read_field(fields.get("prompt")), dict):
        names |= fees.keys()
    calls = count_tool_calls(fields, tool_calls_assumed)
    known = [(name, fees.get(name, 0)) for name in names]
    dearest = max((fee for name, fee in known if not is_of_container(name)), default=0)
    return calls * dearest + sum(fee for name, fee in known if is_of_container(name))


def count_tool_calls(fields: Mapping[str, msgspec.Raw], assumed: int) -> int:
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
    """Describe what is impossible in a usage, given its request; None where all is possible.

    The request's own limit of output counts for managed calls. Where the provider runs tools, the
    model reads and writes again after each of their calls, and all of that is in the usage.
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
    """Return how many calls of hosted tools there may be that the usage does not count. Every tool
    but the client's own functions is run by the provider."""
    tools = read_field(fields.get("tools"))
    kinds = {
        cast("dict[str, Any]", tool).get("type")
        for tool in (cast("list[Any]", tools) if isinstance(tools, list) else ())
        if isinstance(tool, dict)
    }
    if not kinds - {"function", "custom"} and "prompt" not in fields:
        return 0
    return count_tool_calls(fields, HOSTED_TURNS)
