"""Meter Responses: typed events around one response object."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.llm import sse
from headgate.llm.answers import (
    DECODE_ERRORS,
    DONE,
    AnswerFields,
    BodyMeter,
    add_usage,
    apply_fields,
    as_text,
    check_event_error,
    decode_with,
    error_code,
    event_prefixes,
    get_field,
)
from headgate.llm.meter import Meter
from headgate.llm.tools import Item, ToolCalls, count_calls, note_item
from headgate.llm.usage import ParsedUsage

_ITEM_DONE = "response.output_item.done"
_ENDS = {f"response.{state}": state for state in ("completed", "incomplete", "failed", "cancelled")}
"""The last events, with the states in which they leave a response."""
UNDER_WAY = frozenset({"queued", "in_progress"})
_FAILURES = frozenset({"failed", "cancelled"})
"""Final states of a response that has no answer."""
_BULK_TYPES = (
    b"response.image_generation_call.partial_image",
    b"response.audio.delta",
)


class _Response(AnswerFields):
    output: list[Item] | None = None
    tools: msgspec.Raw = msgspec.Raw()
    incomplete_details: Any = None


class _LenientResponse(_Response):
    output: Any = None
    tools: Any = None


class _ResponseEvent(msgspec.Struct):
    type: Any = None
    delta: Any = None
    response: msgspec.Raw = msgspec.Raw()
    code: Any = None
    error: Any = None
    usage: Any = None
    item: msgspec.Raw = msgspec.Raw()
    output_index: Any = None
    sequence_number: Any = None


class _LenientResponseEvent(_ResponseEvent):
    response: Any = None
    item: Any = None


_response_decoder = msgspec.json.Decoder(_Response)
_event_decoder = msgspec.json.Decoder(_ResponseEvent)
_item_decoder = msgspec.json.Decoder(Item)


class ResponsesMeter(BodyMeter):
    """Read responses and their events.

    The type in the data decides, as in the official clients; the `event:` line only if the data has
    none. `output_bytes` counts the text of every delta event. Tool calls with a fee of their own
    are counted by name (`llm.tools`), whether they come in the last event or one by one before it.
    """

    bulk_prefixes = event_prefixes(_BULK_TYPES)

    def read_body(self, body: bytes, parsed: ParsedUsage) -> bool:
        """Read id, model, tier, status, usage, tool calls and the response's error."""
        response = decode_with(_response_decoder, body, _LenientResponse)
        if response is None:
            return False
        _apply_response(response, parsed)
        return True

    def encode_error(self, error: dict[str, str | None], parsed: ParsedUsage) -> bytes:
        """Return `event: error`, numbered after the last event that came.

        The fields are at the top level, as OpenAI documents them, and under `error`, as it sends
        them: the official clients raise their error only for the latter.
        """
        body = {
            "type": "error",
            "error": error,
            "code": error["code"],
            "message": error["message"],
            "param": error["param"],
            "sequence_number": parsed.sequence_number + 1,
        }
        return sse.encode_event(msgspec.json.encode(body), b"error")

    def read_event(self, event: bytes, data: bytes, parsed: ParsedUsage) -> bool:
        """Read an event; the last one has the final state of the response, or is an error."""
        found = decode_with(_event_decoder, data, _LenientResponseEvent)
        if found is None:
            return check_event_error(event, parsed) or data == DONE
        if isinstance(found.sequence_number, int):
            parsed.sequence_number = found.sequence_number
        kind = as_text(found.type) or event.decode("ascii", "replace")
        if isinstance(found.delta, str):
            parsed.output_bytes += len(found.delta.encode("utf-8", "replace"))
        if found.usage is not None:
            add_usage(found.usage, parsed)
        if found.response:
            response = _response_of(found)
            if response is not None:
                _apply_response(response, parsed)
        elif kind == _ITEM_DONE:
            _add_item(found, parsed)
        if kind == "error" or found.error:
            parsed.error_code = error_code(found.error or {"code": found.code})
        end = _ENDS.get(kind)
        if end is not None and parsed.status != end:
            _apply_end(end, parsed)
        return end is not None or check_event_error(event, parsed)


def _apply_end(status: str, parsed: ParsedUsage) -> None:
    """Take the final state from the event, whose response is missing or cannot be read."""
    if parsed.status is None or parsed.status in UNDER_WAY:
        parsed.status = status
    if status in _FAILURES and parsed.error_code is None:
        parsed.error_code = status


def _response_of(event: _ResponseEvent) -> _Response | None:
    if not isinstance(event, _LenientResponseEvent):
        return decode_with(_response_decoder, bytes(event.response), _LenientResponse)
    try:
        return msgspec.convert(event.response, _LenientResponse)
    except msgspec.ValidationError:
        return None


def _add_item(event: _ResponseEvent, parsed: ParsedUsage) -> None:
    """Note a complete item; the last event may repeat it."""
    item = _item_of(event)
    if item is not None:
        if parsed.tool_items is None:
            parsed.tool_items = {}
        note_item(item, event.output_index, parsed.tool_items)


def _item_of(event: _ResponseEvent) -> Item | None:
    if not isinstance(event, _LenientResponseEvent):
        return decode_with(_item_decoder, bytes(event.item), Item)
    return _convert_item(event.item)


def _convert_item(value: object) -> Item | None:
    try:
        return msgspec.convert(value, Item)
    except msgspec.ValidationError:
        return None


def _apply_response(response: _Response, parsed: ParsedUsage) -> None:
    apply_fields(response, parsed)
    status = parsed.status
    if status in _FAILURES and parsed.error_code is None:
        parsed.error_code = status
    elif status == "incomplete":
        parsed.incomplete_reason = (
            as_text(get_field(response.incomplete_details, "reason")) or status
        )
    if parsed.usage is not None and status not in UNDER_WAY:
        final = _list_calls(response)
        if final or parsed.tool_items:
            calls = count_calls(parsed.tool_items or {}, final, _tools_of(response))
            parsed.usage = msgspec.structs.replace(parsed.usage, tool_calls=calls)
        parsed.tool_items = None


def _list_calls(response: _Response) -> ToolCalls:
    calls: ToolCalls = {}
    output: list[Any] = response.output if isinstance(response.output, list) else []
    is_lenient = isinstance(response, _LenientResponse)
    for index, each in enumerate(output):
        item = _convert_item(each) if is_lenient else each
        if item is not None:
            note_item(item, index, calls)
    return calls


def _tools_of(response: _Response) -> object:
    if isinstance(response, _LenientResponse):
        return response.tools
    try:
        return msgspec.json.decode(response.tools) if response.tools else None
    except DECODE_ERRORS:
        return None


METER: Meter = ResponsesMeter()
