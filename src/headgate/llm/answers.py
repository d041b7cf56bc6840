"""The facts that every answer of the OpenAI family may state, and their way into a `Reading`."""

from __future__ import annotations

import json
from typing import Any, TypeVar, cast

import msgspec

from headgate.llm import sse
from headgate.llm.usage import Reading, Reported, combine_usage, read_usage, take_usage

DONE = b"[DONE]"

_T = TypeVar("_T")


class Facts(msgspec.Struct):
    """Fields at the top level of an answer or of a stream's chunk, of whatever type they came."""

    id: Any = None
    model: Any = None
    service_tier: Any = None
    status: Any = None
    usage: Any = None
    error: Any = None


UNDECODABLE = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)
"""What the quick decoder may raise."""


def decode_with(decoder: msgspec.json.Decoder[_T], data: bytes, lenient: type[_T]) -> _T | None:
    """Decode JSON with the quick decoder, else with `decode_leniently`."""
    try:
        return decoder.decode(data)
    except UNDECODABLE:
        return decode_leniently(data, lenient)


def decode_leniently(data: bytes, lenient: type[_T]) -> _T | None:
    """Decode a JSON object, or None.

    What the quick decoder refuses (a lone surrogate, NaN, a field of an odd type) is read with the
    library that the clients use: what they can read must not escape the meter. `lenient` is a type
    with the same fields of any type.
    """
    if data[:64].lstrip()[:1] != b"{":
        return None
    try:
        return msgspec.convert(json.loads(data), lenient)
    except (ValueError, RecursionError, msgspec.ValidationError):
        return None


class _PlainFacts(msgspec.Struct):
    """`Facts` of the types that they usually have, decoded without a detour."""

    id: str | None = None
    model: str | None = None
    service_tier: str | None = None
    status: str | None = None
    usage: Reported | None = None
    error: Any = None


_decode_plain = msgspec.json.Decoder(_PlainFacts).decode
_decode_facts = msgspec.json.Decoder(Facts)


def learn(data: bytes, reading: Reading) -> bool:
    """Note the facts of a JSON object; False for anything else."""
    try:
        facts = _decode_plain(data)
    except UNDECODABLE:
        odd = decode_facts(data)
        if odd is not None:
            note(odd, reading)
        return odd is not None
    reading.answer_id = facts.id or reading.answer_id
    reading.model = facts.model or reading.model
    reading.service_tier = facts.service_tier or reading.service_tier
    reading.status = facts.status or reading.status
    if facts.usage is not None:
        used = take_usage(facts.usage)
        reading.usage = used if reading.usage is None else combine_usage(reading.usage, used)
    if facts.error:
        reading.error_code = error_code(facts.error)
    return True


def decode_facts(data: bytes) -> Facts | None:
    """The facts of a JSON object; None for anything else."""
    return decode_with(_decode_facts, data, Facts)


def note(facts: Facts, reading: Reading) -> None:
    """Take over what is stated and well-formed; keep what was known of the rest."""
    reading.answer_id = text(facts.id) or reading.answer_id
    reading.model = text(facts.model) or reading.model
    reading.service_tier = text(facts.service_tier) or reading.service_tier
    reading.status = text(facts.status) or reading.status
    if facts.usage is not None:
        note_usage(facts.usage, reading)
    if facts.error:
        reading.error_code = error_code(facts.error)


def note_usage(value: object, reading: Reading) -> None:
    """Take over a usage, beside what is known already."""
    used = read_usage(value)
    reading.usage = used if reading.usage is None else combine_usage(reading.usage, used)


def text(value: object) -> str | None:
    """The value if it is a text, else None."""
    return value if isinstance(value, str) else None


def member(value: object, field: str) -> object:
    """The field of an object; None if there is none, or no object."""
    return cast("dict[str, object]", value).get(field) if isinstance(value, dict) else None


def error_code(error: object) -> str:
    """The code of an error object, else its type, else `error`."""
    for field in ("code", "type"):
        value = member(error, field)
        if isinstance(value, str | int) and value:
            return str(value)
    return "error"


def note_event_error(event: bytes, reading: Reading) -> bool:
    """Whether the answer has failed: the data has told so, or the event is named `error`."""
    if event == b"error" and reading.error_code is None:
        reading.error_code = "error"
    return reading.error_code is not None


def typed_heads(types: tuple[bytes, ...]) -> tuple[bytes, ...]:
    """How events of these types begin, with and without a line for their name."""
    return tuple(
        head.replace(b"TYPE", name)
        for name in types
        for head in (b'data: {"type":"TYPE",', b'event: TYPE\ndata: {"type":"TYPE",')
    )


class BodyMeter:
    """Reads a wire whose answer is one JSON object with `model` and `usage`, and never a stream."""

    bulk: tuple[bytes, ...] = ()
    has_last_event = True

    def read_body(self, body: bytes, reading: Reading) -> bool:
        """Learn from the answer."""
        return learn(body, reading)

    def encode_error(self, error: dict[str, str | None], reading: Reading) -> bytes:
        """A data frame with the body of an error answer."""
        return sse.encode_event(msgspec.json.encode({"error": error}))

    def read_event(self, event: bytes, data: bytes, reading: Reading) -> bool:
        """Only an error can come as an event here."""
        facts = decode_facts(data)
        if facts is not None:
            note(facts, reading)
        return note_event_error(event, reading) or data == DONE

    def is_complete(self, reading: Reading, choices: int) -> bool:
        """Never, unless a wire says otherwise."""
        return False

    def is_usage_only(self, data: bytes) -> bool:
        """Never, unless a wire says otherwise."""
        return False
