"""Count the usage of a call in the units of prices."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec.structs import replace

COUNT_END = 2**53
"""The limit of counts: JSON parsers keep integers up to this exact."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Count what the provider reported; totals include their details.

    `input_tokens` is all input (cached, written to a cache, audio and image tokens included);
    `output_tokens` all output (reasoning, audio and image tokens included, rejected predictions
    too). A detail that was not reported is 0.
    """

    input_tokens: int = 0
    cached_tokens: int = 0
    cache_write_tokens: int = 0
    input_audio_tokens: int = 0
    input_image_tokens: int = 0
    output_tokens: int = 0
    reasoning_tokens: int = 0
    output_audio_tokens: int = 0
    output_image_tokens: int = 0
    accepted_prediction_tokens: int = 0
    rejected_prediction_tokens: int = 0
    audio_milliseconds: int = 0
    characters: int = 0
    images: int = 0
    tool_calls: dict[str, int] = {}


class ParsedUsage(msgspec.Struct):
    """Hold what a meter has read from one answer. `usage` is None until the answer reported some.

    `model` is the id that served, `answer_id` the provider's id of the answer, `status` the
    answer's own state if it has one (`completed`, `incomplete`, `failed`, `queued`, ...),
    `error_code` the code or type of an in-band error under status 200. `output_bytes` counts the
    delivered text, for a stream that ends without usage; `sequence_number` is that of the last
    event, on wires that number them. `tool_items` are the billable tool calls that a stream has
    shown so far (`llm.tools.ToolCalls`), until its last event adds them to the usage.
    `incomplete_reason` is why a complete answer stopped early. `finished_choices` has a bit for
    each choice with a finish reason.
    """

    usage: Usage | None = None
    model: str | None = None
    answer_id: str | None = None
    service_tier: str | None = None
    status: str | None = None
    error_code: str | None = None
    output_bytes: int = 0
    sequence_number: int = -1
    tool_items: dict[str, set[str]] | None = None
    incomplete_reason: str | None = None
    finished_choices: int = 0


Count = Annotated[int, msgspec.Meta(ge=0, lt=COUNT_END)]


class _Input(msgspec.Struct):
    cached_tokens: Count | None = None
    cache_write_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None


class _Output(msgspec.Struct):
    reasoning_tokens: Count | None = None
    audio_tokens: Count | None = None
    image_tokens: Count | None = None
    accepted_prediction_tokens: Count | None = None
    rejected_prediction_tokens: Count | None = None


class ReportedUsage(msgspec.Struct):
    """Declare a `usage` object in any of the shapes of OpenAI's wires."""

    type: Any = None
    seconds: Any = None
    prompt_tokens: Count | None = None
    input_tokens: Count | None = None
    completion_tokens: Count | None = None
    output_tokens: Count | None = None
    prompt_tokens_details: _Input | None = None
    input_tokens_details: _Input | None = None
    input_token_details: _Input | None = None
    completion_tokens_details: _Output | None = None
    output_tokens_details: _Output | None = None
    output_token_details: _Output | None = None


_NO_INPUT = _Input()
_NO_OUTPUT = _Output()


def read_usage(value: object) -> Usage | None:
    """Parse a `usage` object in any of the shapes of OpenAI's wires.

    A usage is taken whole or not at all. Return None if a number in it is no count (negative, a
    fraction, a text, 2**53 and up), if the separately priced parts exceed their total, or if there
    is no total. Unknown fields are skipped; null counts as not reported.
    """
    try:
        return build_usage(msgspec.convert(value, ReportedUsage))
    except msgspec.ValidationError:
        return None


def build_usage(reported: ReportedUsage) -> Usage | None:
    """Return the usage of a decoded `usage` object; None as in `read_usage`."""
    if reported.type == "duration":
        return _read_duration(reported.seconds)
    usage = _read_tokens(reported)
    return usage if usage is not None and _adds_up(usage) else None


def combine_usage(known: Usage, reported: Usage | None) -> Usage:
    """Combine a usage with a later report of the same answer.

    Later numbers count, since some providers report a running total in each chunk; but a report
    without one side (input, output) keeps the known numbers of that side. The result is a new
    object if anything was reported.
    """
    if reported is None:
        return known
    if not reported.input_tokens:
        reported = replace(
            reported,
            input_tokens=known.input_tokens,
            cached_tokens=known.cached_tokens,
            cache_write_tokens=known.cache_write_tokens,
            input_audio_tokens=known.input_audio_tokens,
            input_image_tokens=known.input_image_tokens,
        )
    if not reported.output_tokens:
        reported = replace(
            reported,
            output_tokens=known.output_tokens,
            reasoning_tokens=known.reasoning_tokens,
            output_audio_tokens=known.output_audio_tokens,
            output_image_tokens=known.output_image_tokens,
            accepted_prediction_tokens=known.accepted_prediction_tokens,
            rejected_prediction_tokens=known.rejected_prediction_tokens,
        )
    if known.audio_milliseconds or known.images or known.tool_calls:
        reported = replace(
            reported,
            audio_milliseconds=reported.audio_milliseconds or known.audio_milliseconds,
            images=reported.images or known.images,
            tool_calls=reported.tool_calls or known.tool_calls,
        )
    return reported


def _read_duration(seconds: object) -> Usage | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    if not 0 <= seconds < COUNT_END / 1000:
        return None
    return Usage(audio_milliseconds=round(seconds * 1000))


def _read_tokens(reported: ReportedUsage) -> Usage | None:
    read, written = reported.prompt_tokens, reported.completion_tokens
    read = reported.input_tokens if read is None else read
    written = reported.output_tokens if written is None else written
    if read is None and written is None:
        return None
    into = (
        reported.prompt_tokens_details
        or reported.input_tokens_details
        or reported.input_token_details
        or _NO_INPUT
    )
    out = (
        reported.completion_tokens_details
        or reported.output_tokens_details
        or reported.output_token_details
        or _NO_OUTPUT
    )
    return Usage(
        read or 0,
        into.cached_tokens or 0,
        into.cache_write_tokens or 0,
        into.audio_tokens or 0,
        into.image_tokens or 0,
        written or 0,
        out.reasoning_tokens or 0,
        out.audio_tokens or 0,
        out.image_tokens or 0,
        out.accepted_prediction_tokens or 0,
        out.rejected_prediction_tokens or 0,
    )


def _adds_up(usage: Usage) -> bool:
    return (
        usage.cached_tokens + usage.cache_write_tokens <= usage.input_tokens
        and usage.input_audio_tokens + usage.input_image_tokens <= usage.input_tokens
        and usage.output_audio_tokens + usage.output_image_tokens <= usage.output_tokens
    )
