"""Responses: typed events around one response object."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.llm import sse
from headgate.llm.answers import (
    DONE,
    BodyMeter,
    Facts,
    decode_with,
    error_code,
    member,
    note,
    note_event_error,
    text,
    typed_heads,
)
from headgate.llm.meter import Meter
from headgate.llm.usage import Reading

_STARTS = frozenset({"response.created", "response.queued"})
_ENDS = frozenset(
    {"response.completed", "response.incomplete", "response.failed", "response.cancelled"}
)
_CLIENT_TOOLS = frozenset({"function_call", "custom_tool_call"})
_BULK_TYPES = (
    b"response.image_generation_call.partial_image",
    b"response.audio.delta",
)


class _Item(msgspec.Struct):
    type: Any = None
    action: Any = None


class _Response(Facts):
    output: list[_Item] | None = None


class _OddResponse(_Response):
    output: Any = None


class _Event(msgspec.Struct):
    type: Any = None
    delta: Any = None
    response: msgspec.Raw = msgspec.Raw()
    code: Any = None
    error: Any = None
    sequence_number: Any = None


class _OddEvent(_Event):
    response: Any = None


_response_decoder = msgspec.json.Decoder(_Response)
_event_decoder = msgspec.json.Decoder(_Event)


class ResponsesMeter(BodyMeter):
    """Reads responses and their events.

    The type that the data states decides, as in the official clients; the `event:` line only
    where the data has none. `output_bytes` counts the text of every delta event, exactly. Calls of
    the provider's own tools are counted under their item type (`web_search_call`, ...); calls that
    the client is to run are not, nor web search actions that are no search and cost nothing.
    """

    bulk = typed_heads(_BULK_TYPES)

    def read_body(self, body: bytes, reading: Reading) -> bool:
        """Learn id, model, tier, status, usage, tool calls and the response's error."""
        response = decode_with(_response_decoder, body, _OddResponse)
        if response is None:
            return False
        _note_response(response, reading)
        return True

    def encode_error(self, error: dict[str, str | None], reading: Reading) -> bytes:
        """`event: error`, numbered after the last event that came.

        The fields stand at the top, as OpenAI documents them, and under `error`, as it sends them:
        the official clients raise their error only for the latter (openai-dotnet issue 881).
        """
        body = {
            "type": "error",
            "error": error,
            "code": error["code"],
            "message": error["message"],
            "param": error["param"],
            "sequence_number": reading.sequence_number + 1,
        }
        return sse.encode_event(msgspec.json.encode(body), b"error")

    def read_event(self, event: bytes, data: bytes, reading: Reading) -> bool:
        """Learn from an event; the last one states the response's end, or is an error."""
        found = decode_with(_event_decoder, data, _OddEvent)
        if found is None:
            return note_event_error(event, reading) or data == DONE
        if isinstance(found.sequence_number, int):
            reading.sequence_number = found.sequence_number
        kind = text(found.type) or event.decode("ascii", "replace")
        if isinstance(found.delta, str):
            reading.output_bytes += len(found.delta.encode("utf-8", "replace"))
        if kind in _ENDS or (kind in _STARTS and reading.answer_id is None):
            response = _response_of(found)
            if response is not None:
                _note_response(response, reading)
        if kind == "error" or found.error:
            reading.error_code = error_code(found.error or {"code": found.code})
        return kind in _ENDS or note_event_error(event, reading)


def _response_of(event: _Event) -> _Response | None:
    if not isinstance(event, _OddEvent):
        return decode_with(_response_decoder, bytes(event.response), _OddResponse)
    try:
        return msgspec.convert(event.response, _OddResponse)
    except msgspec.ValidationError:
        return None


def _note_response(response: _Response, reading: Reading) -> None:
    usage_before = reading.usage
    note(response, reading)
    calls = _count_tool_calls(response)
    if calls and reading.usage is not None and reading.usage is not usage_before:
        reading.usage = msgspec.structs.replace(reading.usage, tool_calls=calls)


def _count_tool_calls(response: _Response) -> dict[str, int]:
    output: list[Any] = response.output if isinstance(response.output, list) else []
    if isinstance(response, _OddResponse):
        output = [_Item(member(item, "type"), member(item, "action")) for item in output]
    items: list[_Item] = output
    counts: dict[str, int] = {}
    for item in items:
        if _is_charged_call(item):
            counts[item.type] = counts.get(item.type, 0) + 1
    return counts


def _is_charged_call(item: _Item) -> bool:
    kind = text(item.type) or ""
    if kind == "web_search_call":
        return member(item.action, "type") in (None, "search")
    return kind.endswith("_call") and kind not in _CLIENT_TOOLS


METER: Meter = ResponsesMeter()
