"""Find where server-sent events end, read their fields, write new ones.

Lines end with LF, CRLF or CR, mixed at will; a blank line ends an event. How a stream is cut into
chunks never changes its events: a CR at the end of a chunk waits for the next byte, which may be
its LF.
"""

from __future__ import annotations

import re
from typing import NamedTuple

from headgate.kit.errors import HeadgateError, Kind

EVENT_BYTES_MAX = 1 << 20

_CR = 13
_BOM = b"\xef\xbb\xbf"
_LINE_END = re.compile(rb"\r\n|\n|\r")
# Atomic groups: backtracking would read a CRLF as CR and LF, which is a blank line.
_BLANK_LINE = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r(?!\Z))")
_BLANK_LINE_AT_END = re.compile(rb"(?>\r\n|\n|\r)(?>\r\n|\n|\r)")
_BLANK_LINE_BYTES_MAX = 4


class EventTooLargeError(HeadgateError):
    """The provider sent a larger stream event than the limit.

    Raise the limit, or ask for less in one event.
    """

    kind = Kind.UPSTREAM
    code = "upstream_event_too_large"


class Event(NamedTuple):
    """Hold a complete event: the bytes as they came, its name (may be empty), its joined data."""

    raw: bytes
    name: bytes
    data: bytes


def find_ends(buffer: bytes | bytearray, start: int, *, final: bool = False) -> list[int]:
    """Return the offsets just past every blank line after `start`, in linear time. `final` says
    that nothing follows, so that a CR at the end need not wait."""
    if buffer.find(b"\r", start) >= 0:
        pattern = _BLANK_LINE_AT_END if final else _BLANK_LINE
        return [match.end() for match in pattern.finditer(buffer, start)]
    ends: list[int] = []
    while (found := buffer.find(b"\n\n", start)) >= 0:
        start = found + 2
        ends.append(start)
    return ends


def next_search_offset(buffer: bytes | bytearray) -> int:
    """Return where to resume the search when more bytes have come, to search none twice."""
    return max(0, len(buffer) - _BLANK_LINE_BYTES_MAX + 1)


def parse_plain(raw: bytes) -> tuple[bytes, bytes] | None:
    """Return name and data of bytes that are exactly one event of the plainest form, else None.

    That is an optional `event:` line and one `data:` line, both ended by LF, as providers send
    them.
    """
    line, _, rest = raw.partition(b"\n")
    if rest == b"\n":
        return (b"", line[6:]) if line[:6] == b"data: " and _CR not in line else None
    if line[:7] == b"event: " and rest[:6] == b"data: " and _CR not in raw:
        data, _, blank = rest.partition(b"\n")
        return (line[7:], data[6:]) if blank == b"\n" else None
    return None


def parse_event(raw: bytes) -> Event:
    """Parse a complete event; comments, ids and unknown fields are skipped."""
    fields = parse_plain(raw)
    return Event(raw, *fields) if fields else _parse_lines(raw)


def _parse_lines(raw: bytes) -> Event:
    name = b""
    data: list[bytes] = []
    for line in _LINE_END.split(raw.removeprefix(_BOM)):
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return Event(raw, name, b"\n".join(data))


def read_name(head: bytes) -> bytes:
    """Return the event name if the first line states it, else empty."""
    line = _LINE_END.split(head.removeprefix(_BOM), 1)[0]
    return line[6:].removeprefix(b" ") if line.startswith(b"event:") else b""


def check_size(size: int, event_bytes_max: int) -> None:
    """Raise `EventTooLargeError` when more than so many bytes would be held back."""
    if size > event_bytes_max:
        raise EventTooLargeError(
            f"The provider sent a stream event of more than {event_bytes_max} bytes."
        )


def encode_event(data: bytes, name: bytes = b"") -> bytes:
    """Encode one event. `data` has no line breaks; without a name there is no `event:` line."""
    if name:
        return b"event: " + name + b"\ndata: " + data + b"\n\n"
    return b"data: " + data + b"\n\n"
