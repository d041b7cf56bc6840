"""Read the fields that every answer of the OpenAI family may have into a `ParsedUsage`."""

from __future__ import annotations

import json
from typing import Any, TypeVar, cast

import msgspec

from headgate.llm import sse
from headgate.llm.usage import ParsedUsage, ReportedUsage, build_usage, combine_usage, read_usage

DONE = b"[DONE]"

_T = TypeVar("_T")


class AnswerFields(msgspec.Struct):
    """Hold the top-level fields of an answer or a stream's chunk, of whatever type they came."""

    id: Any = None
    model: Any = None
    service_tier: Any = None
    status: Any = None
    usage: Any = None
    error: Any = None


DECODE_ERRORS = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What msgspec's decoder may raise."""


def decode_with(decoder: msgspec.json.Decoder[_T], data: bytes, lenient: type[_T]) -> _T | None:
    """Decode JSON with the fast decoder, else with `decode_leniently`."""
    try:
        return decoder.decode(data)
    except DECODE_ERRORS:
        return decode_leniently(data, lenient)


def decode_leniently(data: bytes, lenient: type[_T]) -> _T | None:
    """Decode a JSON object; None for anything else.

    What the fast decoder rejects (a lone surrogate, NaN, a field of an unusual type) is decoded
    with `json`, since clients can read it and it must not escape the meter. `lenient` is a type
    with the same fields of any type.
    """
    if data[:64].lstrip()[:1] != b"{":
        return None
    try:
        return msgspec.convert(json.loads(data), lenient)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return None


class _TypedAnswerFields(msgspec.Struct):
    """Declare the usual types of `AnswerFields`, to decode them in one step."""

    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    status: str | None = None
    usage: ReportedUsage | None = None
    error: Any = None


_decode_plain = msgspec.json.Decoder(_TypedAnswerFields).decode
_decode_fields = msgspec.json.Decoder(AnswerFields)


def read_fields(data: bytes, parsed: ParsedUsage) -> bool:
    """Note the fields of a JSON object; return False for anything else."""
    try:
        fields = _decode_plain(data)
    except DECODE_ERRORS:
        lenient_fields = decode_fields(data)
        if lenient_fields is not None:
            apply_fields(lenient_fields, parsed)
        return lenient_fields is not None
    parsed.answer_id = fields.id or parsed.answer_id
    parsed.model = fields.model or parsed.model
    parsed.service_tier = fields.service_tier or parsed.service_tier
    parsed.status = fields.status or parsed.status
    if fields.usage is not None:
        used = build_usage(fields.usage)
        parsed.usage = used if parsed.usage is None else combine_usage(parsed.usage, used)
    if fields.error:
        parsed.error_code = error_code(fields.error)
    return True


def decode_fields(data: bytes) -> AnswerFields | None:
    """Return the fields of a JSON object; None for anything else."""
    return decode_with(_decode_fields, data, AnswerFields)


def apply_fields(fields: AnswerFields, parsed: ParsedUsage) -> None:
    """Take over the fields that are present and well-formed; keep earlier values of the others."""
    parsed.answer_id = as_text(fields.id) or parsed.answer_id
    parsed.model = as_text(fields.model) or parsed.model
    parsed.service_tier = as_text(fields.service_tier) or parsed.service_tier
    parsed.status = as_text(fields.status) or parsed.status
    if fields.usage is not None:
        add_usage(fields.usage, parsed)
    if fields.error:
        parsed.error_code = error_code(fields.error)


def add_usage(value: object, parsed: ParsedUsage) -> None:
    """Combine a usage with what was parsed before."""
    used = read_usage(value)
    parsed.usage = used if parsed.usage is None else combine_usage(parsed.usage, used)


def as_text(value: object) -> str | None:
    return value if isinstance(value, str) else None


def get_field(value: object, field: str) -> object:
    """Return the field of an object; None if it is missing or `value` is no object."""
    return cast("dict[str, object]", value).get(field) if isinstance(value, dict) else None


def error_code(error: object) -> str:
    """Return the code of an error object, else its type, else `error`."""
    for field in ("code", "type"):
        value = get_field(error, field)
        if isinstance(value, str | int) and value:
            return str(value)
    return "error"


def check_event_error(event: bytes, parsed: ParsedUsage) -> bool:
    """Return whether the answer has failed: by its data, or because the event is named `error`."""
    if event == b"error" and parsed.error_code is None:
        parsed.error_code = "error"
    return parsed.error_code is not None


def event_prefixes(types: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """Return the first bytes of events of these types, with and without an `event` line."""
    return tuple(
        head.replace(b"TYPE", name)
        for name in types
        for head in (b'data: {"type":"TYPE",', b'event: TYPE\ndata: {"type":"TYPE",')
    )


class BodyMeter:
    """Read answers that are one JSON object with `model` and `usage`, and never a stream."""

    bulk_prefixes: tuple[bytes, ...] = ()
    has_last_event = True

    def read_body(self, body: bytes, parsed: ParsedUsage) -> bool:
        return read_fields(body, parsed)

    def encode_error(self, error: dict[str, str | None], parsed: ParsedUsage) -> bytes:
        return sse.encode_event(msgspec.json.encode({"error": error}))

    def read_event(self, event: bytes, data: bytes, parsed: ParsedUsage) -> bool:
        """Read an event; on these wires only an error comes as one."""
        fields = decode_fields(data)
        if fields is not None:
            apply_fields(fields, parsed)
        return check_event_error(event, parsed) or data == DONE

    def is_complete(self, parsed: ParsedUsage, choices: int) -> bool:
        return False

    def is_usage_only(self, data: bytes) -> bool:
        return False
