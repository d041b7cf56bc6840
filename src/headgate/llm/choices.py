"""Meter chat and legacy completions: answers that are lists of choices."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.llm.answers import (
    DECODE_ERRORS,
    DONE,
    BodyMeter,
    add_usage,
    check_event_error,
    decode_leniently,
    decode_with,
    read_fields,
)
from headgate.llm.usage import ParsedUsage

CHOICES_MAX = 1024
"""The most choices whose end is tracked; no provider sends so many."""


class _Function(msgspec.Struct):
    arguments: str | None = None


class _ToolCall(msgspec.Struct):
    function: _Function | None = None


class _Delta(msgspec.Struct):
    content: str | None = None
    refusal: str | None = None
    tool_calls: list[_ToolCall] | None = None


class _ChunkChoice(msgspec.Struct):
    delta: _Delta | None = None
    text: str | None = None
    usage: Any = None
    finish_reason: str | None = None
    index: int | None = None


class _Chunk(msgspec.Struct):
    choices: list[_ChunkChoice] | None = None
    usage: Any = None
    error: Any = None


class _LenientChunk(_Chunk):
    choices: Any = None


_chunk_decoder = msgspec.json.Decoder(_Chunk)
_decode_chunk = _chunk_decoder.decode


class ChoicesMeter(BodyMeter):
    """Read chat completions and completions.

    `output_bytes` counts the bytes of content, refusals and tool arguments of every choice, from
    the one decoding that is needed anyway. Chunks whose choices have an unknown shape count
    nothing. Usage is read wherever a chunk has it; some providers put it in a choice.
    """

    def read_event(self, event: bytes, data: bytes, parsed: ParsedUsage) -> bool:
        """Read a chunk; the last event is `[DONE]` or an error."""
        try:
            chunk = _decode_chunk(data)
        except DECODE_ERRORS:
            chunk = decode_leniently(data, _LenientChunk)
        if chunk is None:
            return check_event_error(event, parsed) or data == DONE
        if chunk.usage is not None or chunk.error or parsed.answer_id is None:
            read_fields(data, parsed)
        if type(chunk) is _Chunk:
            for choice in chunk.choices or ():
                if choice.usage is not None:
                    add_usage(choice.usage, parsed)
                if (delta := choice.delta) is not None and (content := delta.content):
                    parsed.output_bytes += len(content.encode())
                else:
                    parsed.output_bytes += _other_text_bytes(choice)
                if choice.finish_reason:
                    parsed.finished_choices |= _choice_bit(choice.index or 0)
        return bool(event or chunk.error) and check_event_error(event, parsed)

    def is_complete(self, parsed: ParsedUsage, choices: int) -> bool:
        """Return whether every choice has a finish reason: some providers end without `[DONE]`."""
        return choices <= CHOICES_MAX and parsed.finished_choices.bit_count() >= choices

    def is_usage_only(self, data: bytes) -> bool:
        """Return whether the chunk has no choices, and so nothing but its usage."""
        chunk = decode_with(_chunk_decoder, data, _LenientChunk)
        return chunk is not None and chunk.choices == []


def _choice_bit(index: int) -> int:
    return 1 << index if 0 <= index < CHOICES_MAX else 0


def _other_text_bytes(choice: _ChunkChoice) -> int:
    delta = choice.delta
    if delta is None:
        return len((choice.text or "").encode())
    calls = [call.function for call in delta.tool_calls or ()]
    texts = [delta.refusal, *(function.arguments for function in calls if function)]
    return sum(len(text.encode()) for text in texts if text)
