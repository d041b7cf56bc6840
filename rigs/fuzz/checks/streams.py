"""Streams of a provider: events, and the taps that read them."""

from __future__ import annotations

import re

from headgate.llm import sse
from headgate.llm.meter import Meter
from headgate.llm.tail import TailTap
from headgate.llm.tap import NAME_BYTES, NO_DATA, StreamTap
from headgate.llm.usage import ParsedUsage
from headgate.llm.wire import audio, chat, completions, images, opaque, responses
from rigs.fuzz.checks.chunks import cut_in_many_ways, split_first_byte
from tests.fakes.sse_framer import SseFramer

METERS: tuple[Meter, ...] = (
    chat.METER,
    responses.METER,
    images.METER,
    audio.METER,
    opaque.METER,
    completions.METER,
)
EVENT_BYTES_MAX = 4096
DROP_ORDER = 8
"""Orders from here on have the usage event dropped."""

_LINE_END = re.compile(rb"\r\n|\n|\r")
_BOM = b"\xef\xbb\xbf"
Outcome = tuple[bytes, bytes, ParsedUsage, bool, bool]


def check_events(data: bytes) -> None:
    """Check that no byte is lost, no cut changes an event, and events are those of the standard."""
    order, stream = split_first_byte(data)
    events, pending = split_events([stream])
    assert b"".join(event.raw for event in events) + pending == stream
    for chunks in cut_in_many_ways(order, stream):
        assert split_events(chunks) == (events, pending)
    if _BOM not in stream:
        found = [(event.name, event.data) for event in events if event.data]
        assert found == read_by_the_standard(stream)


def check_tap(data: bytes) -> None:
    """Check that bytes pass unchanged at any cut, and the usage is that of the events."""
    order, stream = split_first_byte(data)
    meter, drop = METERS[order % DROP_ORDER % len(METERS)], bool(order & DROP_ORDER)
    whole = run_tap(meter, [stream], drop=drop)
    for chunks in cut_in_many_ways(order >> 4, stream):
        assert run_tap(meter, chunks, drop=drop) == whole
    if whole is None:
        return
    left, withheld, parsed, finished, truncated = whole
    if not drop:
        assert stream.startswith(left + withheld)
        assert left + withheld == stream or truncated
    assert (parsed, finished) == read_event_by_event(meter, stream)


def check_tail(data: bytes) -> None:
    """Check that every byte passes in order, and the last one only when it is released."""
    order, stream = split_first_byte(data)
    for chunks in cut_in_many_ways(order, stream):
        tap = TailTap()
        left = b"".join(tap.feed(chunk) for chunk in chunks) + tap.close()
        assert left == stream[:-1]
        assert tap.release() == stream[-1:]
        assert tap.release() == b""


def check_answer(data: bytes) -> None:
    """Check that no body and no event makes a meter raise, and that its usage can be priced."""
    order, body = split_first_byte(data)
    meter = METERS[order % len(METERS)]
    parsed = ParsedUsage()
    meter.read_body(body, parsed)
    check_usage(parsed)
    name, _, event = body.partition(b"\n")
    parsed = ParsedUsage()
    meter.read_event(name, event, parsed)
    check_usage(parsed)
    meter.is_usage_only(event)
    frame_text = {"message": "m", "type": "t", "param": None, "code": "c"}
    error_frame = meter.encode_error(frame_text, parsed)
    assert not error_frame or error_frame.endswith(b"\n\n")


def check_usage(parsed: ParsedUsage) -> None:
    """Check that counts are not negative, and separately priced parts stay below their totals."""
    usage = parsed.usage
    if usage is None:
        return
    counts = [getattr(usage, name) for name in usage.__struct_fields__ if name != "tool_calls"]
    assert all(type(count) is int and 0 <= count < 2**53 for count in counts)
    assert usage.cached_tokens + usage.cache_write_tokens <= usage.input_tokens
    assert usage.output_audio_tokens <= usage.output_tokens
    assert all(count > 0 for count in usage.tool_calls.values())


def run_tap(meter: Meter, chunks: list[bytes], *, drop: bool) -> Outcome | None:
    """Return the bytes passed and held back, the usage, and whether it ended; None if too long."""
    parsed = ParsedUsage()
    tap = StreamTap(meter, parsed, drop_usage=drop, event_bytes_max=EVENT_BYTES_MAX)
    try:
        left = b"".join([tap.feed(chunk) for chunk in chunks]) + tap.close()
    except sse.EventTooLargeError:
        return None
    return left, tap.release(), parsed, tap.finished, tap.truncated


def split_events(chunks: list[bytes]) -> tuple[list[sse.Event], bytes]:
    """Return the events of a stream, and what is left over."""
    framer = SseFramer()
    events = [event for chunk in chunks for event in framer.feed(chunk)]
    return events + framer.close(), framer.pending


def read_event_by_event(meter: Meter, stream: bytes) -> tuple[ParsedUsage, bool]:
    """Return what a stream states when its events are read one after the other."""
    events, pending = split_events([stream])
    if pending:
        events.append(sse.parse_event(pending))
    parsed = ParsedUsage()
    for event in events:
        name, data = event.name, event.data
        if len(event.raw) > EVENT_BYTES_MAX:
            name, data = sse.read_name(event.raw[:NAME_BYTES]), NO_DATA
            if not name or event.raw == pending:
                continue
        if event.raw.startswith(meter.bulk_prefixes) or not data:
            continue
        if meter.read_event(name, data, parsed):
            return parsed, True
    return parsed, False


def read_by_the_standard(stream: bytes) -> list[tuple[bytes, bytes]]:
    """Return names and data as the HTML standard reads them, line by line."""
    found: list[tuple[bytes, bytes]] = []
    name, data = b"", list[bytes]()
    *lines, _ = _LINE_END.split(stream)
    for line in lines:
        if not line:
            if any(data) or len(data) > 1:
                found.append((name, b"\n".join(data)))
            name, data = b"", []
            continue
        field, _, value = line.partition(b":")
        value = value.removeprefix(b" ")
        if field == b"data":
            data.append(value)
        elif field == b"event":
            name = value
    return found
