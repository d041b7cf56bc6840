"""Scripts whose fault is in timing, the connection or its framing: U4 to U10, U19, U20."""

from __future__ import annotations

from headgate_simulator.fault_server import response, wires
from headgate_simulator.fault_server.steps import (
    Close,
    FaultRequest,
    Pause,
    Repeat,
    Reset,
    Script,
    Send,
    StartBilling,
    Steps,
)

LATE_SECONDS = 120.0
STALL_SECONDS = 300.0
DRIP_SECONDS = 5.0
FLOOD_BYTES = 2 << 30
FLOOD_BLOCK = b"x" * 65_536
HUGE = b"1" + b"0" * 18
_HALF_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-le"


def _reset_before_head(_request: FaultRequest) -> Steps:
    yield Reset()


def _close_before_head(_request: FaultRequest) -> Steps:
    yield Close()


def _reset_in_head(_request: FaultRequest) -> Steps:
    yield Send(_HALF_HEAD)
    yield Reset()


def _close_in_head(_request: FaultRequest) -> Steps:
    yield Send(_HALF_HEAD)
    yield Close()


def _speak_otherwise(_request: FaultRequest) -> Steps:
    yield Send(b"SSH-2.0-OpenSSH_9.6\r\n")
    yield Close()


def _odd_status(_request: FaultRequest) -> Steps:
    yield Send(b"HTTP/1.1 799 Odd\r\ncontent-length: 2\r\n\r\n{}")


def _reset_in_body(request: FaultRequest) -> Steps:
    steps, rest = response.begin_midway(request)
    yield from steps
    yield Send(rest)
    # A reset throws away what the peer has not read yet.
    yield Pause(request.option("seconds", 0.05))
    yield Reset()


def _reset_after_head(request: FaultRequest) -> Steps:
    yield from response.begin(request)
    yield Pause(request.option("seconds", 0.05))
    yield Reset()


def _reset_between_events(request: FaultRequest) -> Steps:
    steps, _ = response.begin_midway(request)
    yield from steps
    yield Pause(request.option("seconds", 0.05))
    yield Reset()


def _end_without_last(request: FaultRequest) -> Steps:
    if request.streams:
        return response.stream(request, wires.events(request)[:3])
    body = wires.body(request)
    return response.send_whole(request, body[: len(body) // 2])


def _close_without_last(request: FaultRequest) -> Steps:
    steps, rest = response.begin_midway(request)
    yield from steps
    yield Send(rest)
    yield Close()


def _end_with_connection(request: FaultRequest) -> Steps:
    """Cut a body that has neither length nor chunks in the middle: it seems to end cleanly."""
    yield StartBilling(wires.INPUT_TOKENS)
    yield Send(response.head(200, *response.content_type(request)))
    if request.streams:
        yield from wires.events(request)[:3]
    else:
        body = wires.body(request)
        yield Send(body[: len(body) // 2])
    yield Close()


def _late_head(request: FaultRequest) -> Steps:
    yield Pause(request.option("seconds", LATE_SECONDS))
    yield from response.correct(request)


def _stall(request: FaultRequest) -> Steps:
    steps, rest = response.begin_midway(request)
    yield from steps
    yield Send(rest)
    yield Pause(request.option("seconds", STALL_SECONDS))
    yield Close()


def _stall_after_head(request: FaultRequest) -> Steps:
    yield from response.begin(request)
    yield Pause(request.option("seconds", STALL_SECONDS))
    yield Close()


def _drip(request: FaultRequest) -> Steps:
    yield from response.begin(request)
    body = b"".join(send.data for send in wires.events(request)) if request.streams else b""
    for byte in body or wires.body(request):
        yield Pause(request.option("seconds", DRIP_SECONDS))
        yield Send(response.chunk(bytes([byte])))
    yield Send(response.END)


def _with_length(request: FaultRequest, *lengths: bytes, extra: bytes = b"") -> Steps:
    """Send the correct body under heads that announce other lengths, then close."""
    body = _joined(request)
    fields = [(b"content-length", value) for value in lengths]
    yield StartBilling(wires.INPUT_TOKENS)
    yield Send(response.head(200, *response.content_type(request), *fields))
    yield Send(body + extra, wires.output_tokens(request.wire), states_usage=True)
    yield Close()


def _joined(request: FaultRequest) -> bytes:
    if request.streams:
        return b"".join(send.data for send in wires.events(request))
    return wires.body(request)


def _length_long(request: FaultRequest) -> Steps:
    return _with_length(request, b"%d" % (len(_joined(request)) + 100))


def _length_short(request: FaultRequest) -> Steps:
    return _with_length(request, b"%d" % (len(_joined(request)) - 20))


def _length_huge(request: FaultRequest) -> Steps:
    return _with_length(request, HUGE)


def _length_negative(request: FaultRequest) -> Steps:
    return _with_length(request, b"-1")


def _length_twice(request: FaultRequest) -> Steps:
    size = len(_joined(request))
    return _with_length(request, b"%d" % size, b"%d" % (size + 9))


def _length_and_chunks(request: FaultRequest) -> Steps:
    body = _joined(request)
    fields = (response.length(body), response.CHUNKED)
    yield StartBilling(wires.INPUT_TOKENS)
    yield Send(response.head(200, *response.content_type(request), *fields))
    yield Send(
        response.chunk(body) + response.END, wires.output_tokens(request.wire), states_usage=True
    )
    yield Close()


def _flood(request: FaultRequest) -> Steps:
    """Send a body without end: one JSON text, or one event, that never closes."""
    yield from response.begin(request)
    yield Send(response.chunk(b"data: " if request.streams else b'{"id":"'))
    size = int(request.option("bytes", FLOOD_BYTES))
    yield Repeat(response.chunk(FLOOD_BLOCK), size // len(FLOOD_BLOCK))
    yield Send(response.END)


def _flood_announced(request: FaultRequest) -> Steps:
    size = int(request.option("bytes", FLOOD_BYTES))
    size -= size % len(FLOOD_BLOCK)
    yield StartBilling(wires.INPUT_TOKENS)
    yield Send(
        response.head(200, *response.content_type(request), (b"content-length", b"%d" % size))
    )
    yield Repeat(FLOOD_BLOCK, size // len(FLOOD_BLOCK))


SCRIPTS = (
    Script("U4.reset", _reset_before_head, "RST before the head"),
    Script("U4.close", _close_before_head, "closed before the head"),
    Script("U5.reset", _reset_in_head, "RST in the middle of the head"),
    Script("U5.close", _close_in_head, "closed in the middle of the head"),
    Script("U5.noise", _speak_otherwise, "another protocol"),
    Script("U5.status", _odd_status, "a status that HTTP does not define"),
    Script("U6.in-body", _reset_in_body, "RST in the body, inside a character of an event"),
    Script("U6.after-head", _reset_after_head, "RST after the head"),
    Script("U6.between", _reset_between_events, "RST between two events"),
    Script("U7.end", _end_without_last, "a clean end without the last event, or in mid-JSON"),
    Script("U7.close", _close_without_last, "closed in the body, its framing not ended"),
    Script("U7.no-length", _end_with_connection, "a body that ends with the connection, too early"),
    Script("U8.late", _late_head, "the head after `seconds` (120)"),
    Script("U9.stall", _stall, "silence in the body for `seconds` (300)"),
    Script("U9.after-head", _stall_after_head, "silence after the head for `seconds` (300)"),
    Script("U10.drip", _drip, "a byte every `seconds` (5)"),
    Script("U19.long", _length_long, "a content-length of 100 too many"),
    Script("U19.short", _length_short, "a content-length of 20 too few"),
    Script("U19.huge", _length_huge, "a content-length of 10^18"),
    Script("U19.negative", _length_negative, "a content-length of -1"),
    Script("U19.twice", _length_twice, "two lengths that differ"),
    Script("U19.chunked", _length_and_chunks, "a length and chunks"),
    Script("U20.flood", _flood, "`bytes` (2 GiB) of one JSON text or one event"),
    Script("U20.announced", _flood_announced, "the same with a content-length"),
)
