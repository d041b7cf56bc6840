"""What a call used, in the units that prices are made of."""

from __future__ import annotations

from typing import Any, cast

import msgspec

COUNT_END = 2**53
"""A count stops below this: the largest integer that every JSON reader keeps exact."""


class Usage(msgspec.Struct, frozen=True, omit_defaults=True):
    """Counts as the provider reported them; totals include their details.

    `input_tokens` is everything that went in (cached, written to a cache, audio and image tokens
    among them); `output_tokens` everything that came out (reasoning, audio and image tokens among
    them, rejected predictions too). A detail that was not reported is 0.
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


class Reading(msgspec.Struct):
    """What a meter learned from one answer. `usage` is None until the answer reported some.

    `model` is the id that served, `answer_id` the provider's id of the answer, `status` the
    answer's own state where it has one (`completed`, `incomplete`, `failed`, `queued`, ...),
    `error_code` an error that came in band under status 200 (text of the code or type).
    `output_bytes` counts the text that was delivered, for a stream that ends without usage;
    `sequence_number` is that of the last event, on wires that number them.
    """

    usage: Usage | None = None
    model: str | None = None
    answer_id: str | None = None
    service_tier: str | None = None
    status: str | None = None
    error_code: str | None = None
    output_bytes: int = 0
    sequence_number: int = -1


def read_usage(value: object) -> Usage | None:
    """Read a `usage` object in any of the shapes that OpenAI's wires have.

    A usage is taken whole or not at all: None when a number in it is no count (negative, a
    fraction, a text, 2**53 and up), when the parts that are priced apart exceed their total, or
    when there is no total. Unknown fields are skipped, null counts as not reported.
    """
    if not isinstance(value, dict):
        return None
    fields = cast("dict[str, Any]", value)
    if fields.get("type") == "duration":
        return _read_duration(fields.get("seconds"))
    try:
        return _read_tokens(fields)
    except ValueError:
        return None


def _read_duration(seconds: object) -> Usage | None:
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        return None
    if not 0 <= seconds < COUNT_END / 1000:
        return None
    return Usage(audio_milliseconds=round(seconds * 1000))


def _read_tokens(fields: dict[str, Any]) -> Usage | None:
    names = ("prompt_tokens", "input_tokens", "completion_tokens", "output_tokens")
    if all(fields.get(name) is None for name in names):
        return None
    into = _details(fields, "prompt_tokens_details", "input_tokens_details", "input_token_details")
    out = _details(
        fields, "completion_tokens_details", "output_tokens_details", "output_token_details"
    )
    usage = Usage(
        input_tokens=_count(fields, "prompt_tokens", "input_tokens"),
        cached_tokens=_count(into, "cached_tokens"),
        cache_write_tokens=_count(into, "cache_write_tokens"),
        input_audio_tokens=_count(into, "audio_tokens"),
        input_image_tokens=_count(into, "image_tokens"),
        output_tokens=_count(fields, "completion_tokens", "output_tokens"),
        reasoning_tokens=_count(out, "reasoning_tokens"),
        output_audio_tokens=_count(out, "audio_tokens"),
        output_image_tokens=_count(out, "image_tokens"),
        accepted_prediction_tokens=_count(out, "accepted_prediction_tokens"),
        rejected_prediction_tokens=_count(out, "rejected_prediction_tokens"),
    )
    return usage if _adds_up(usage) else None


def _adds_up(usage: Usage) -> bool:
    return (
        usage.cached_tokens + usage.cache_write_tokens <= usage.input_tokens
        and usage.input_audio_tokens + usage.input_image_tokens <= usage.input_tokens
        and usage.output_audio_tokens + usage.output_image_tokens <= usage.output_tokens
    )


def _details(fields: dict[str, Any], *names: str) -> dict[str, Any]:
    for name in names:
        value = fields.get(name)
        if value is not None:
            if isinstance(value, dict):
                return cast("dict[str, Any]", value)
            raise ValueError(name)
    return {}


def _count(fields: dict[str, Any], *names: str) -> int:
    """The first of these fields that is reported, 0 if none is. Raises `ValueError`."""
    for name in names:
        value = fields.get(name)
        if value is not None:
            if type(value) is int and 0 <= value < COUNT_END:
                return value
            raise ValueError(name)
    return 0
