"""Scripts whose fault is in time, in the connection or in its framing: U4 to U10, U19, U20."""

from __future__ import annotations

from headgate_simulator.fault_line import answer, wires
from headgate_simulator.fault_line.steps import (
    Asked,
    Close,
    Flood,
    Reset,
    Script,
    Sell,
    Send,
    Steps,
    Wait,
)

LATE_SECONDS = 120.0
STALL_SECONDS = 300.0
DRIP_SECONDS = 5.0
FLOOD_BYTES = 2 << 30
FLOOD_BLOCK = b"x" * 65_536
HUGE = b"1" + b"0" * 18
_HALF_HEAD = b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-le"


def _reset_before_head(_asked: Asked) -> Steps:
    yield Reset()


def _close_before_head(_asked: Asked) -> Steps:
    yield Close()


def _reset_in_head(_asked: Asked) -> Steps:
    yield Send(_HALF_HEAD)
    yield Reset()


def _close_in_head(_asked: Asked) -> Steps:
    yield Send(_HALF_HEAD)
    yield Close()


def _speak_otherwise(_asked: Asked) -> Steps:
    yield Send(b"SSH-2.0-OpenSSH_9.6\r\n")
    yield Close()


def _odd_status(_asked: Asked) -> Steps:
    yield Send(b"HTTP/1.1 799 Odd\r\ncontent-length: 2\r\n\r\n{}")


def _reset_in_body(asked: Asked) -> Steps:
    steps, rest = answer.begun(asked)
    yield from steps
    yield Send(rest)
    # A reset throws away what the peer has not read yet.
    yield Wait(asked.option("seconds", 0.05))
    yield Reset()


def _reset_after_head(asked: Asked) -> Steps:
    yield from answer.begin(asked)
    yield Wait(asked.option("seconds", 0.05))
    yield Reset()


def _reset_between_events(asked: Asked) -> Steps:
    steps, _ = answer.begun(asked)
    yield from steps
    yield Wait(asked.option("seconds", 0.05))
    yield Reset()


def _end_without_last(asked: Asked) -> Steps:
    if asked.streams:
        return answer.stream(asked, wires.events(asked)[:3])
    body = wires.body(asked)
    return answer.whole(asked, body[: len(body) // 2])


def _close_without_last(asked: Asked) -> Steps:
    steps, rest = answer.begun(asked)
    yield from steps
    yield Send(rest)
    yield Close()


def _end_with_connection(asked: Asked) -> Steps:
    """A body without any length of its own, that is cut in the middle: a clean end, it seems."""
    yield Sell(wires.INPUT_TOKENS)
    yield Send(answer.head(200, *answer.kind(asked)))
    if asked.streams:
        yield from wires.events(asked)[:3]
    else:
        body = wires.body(asked)
        yield Send(body[: len(body) // 2])
    yield Close()


def _late_head(asked: Asked) -> Steps:
    yield Wait(asked.option("seconds", LATE_SECONDS))
    yield from answer.right(asked)


def _stall(asked: Asked) -> Steps:
    steps, rest = answer.begun(asked)
    yield from steps
    yield Send(rest)
    yield Wait(asked.option("seconds", STALL_SECONDS))
    yield Close()


def _stall_after_head(asked: Asked) -> Steps:
    yield from answer.begin(asked)
    yield Wait(asked.option("seconds", STALL_SECONDS))
    yield Close()


def _drip(asked: Asked) -> Steps:
    yield from answer.begin(asked)
    body = b"".join(send.data for send in wires.events(asked)) if asked.streams else b""
    for byte in body or wires.body(asked):
        yield Wait(asked.option("seconds", DRIP_SECONDS))
        yield Send(answer.chunk(bytes([byte])))
    yield Send(answer.END)


def _with_length(asked: Asked, *lengths: bytes, extra: bytes = b"") -> Steps:
    """The right body under heads that say other things of its length, then the end."""
    body = _joined(asked)
    fields = [(b"content-length", value) for value in lengths]
    yield Sell(wires.INPUT_TOKENS)
    yield Send(answer.head(200, *answer.kind(asked), *fields))
    yield Send(body + extra, wires.output_tokens(asked.wire), tells=True)
    yield Close()


def _joined(asked: Asked) -> bytes:
    if asked.streams:
        return b"".join(send.data for send in wires.events(asked))
    return wires.body(asked)


def _length_long(asked: Asked) -> Steps:
    return _with_length(asked, b"%d" % (len(_joined(asked)) + 100))


def _length_short(asked: Asked) -> Steps:
    return _with_length(asked, b"%d" % (len(_joined(asked)) - 20))


def _length_huge(asked: Asked) -> Steps:
    return _with_length(asked, HUGE)


def _length_negative(asked: Asked) -> Steps:
    return _with_length(asked, b"-1")


def _length_twice(asked: Asked) -> Steps:
    size = len(_joined(asked))
    return _with_length(asked, b"%d" % size, b"%d" % (size + 9))


def _length_and_chunks(asked: Asked) -> Steps:
    body = _joined(asked)
    fields = (answer.length(body), answer.CHUNKED)
    yield Sell(wires.INPUT_TOKENS)
    yield Send(answer.head(200, *answer.kind(asked), *fields))
    yield Send(answer.chunk(body) + answer.END, wires.output_tokens(asked.wire), tells=True)
    yield Close()


def _flood(asked: Asked) -> Steps:
    """A body without end in sight: one JSON text, or one event, that does not close."""
    yield from answer.begin(asked)
    yield Send(answer.chunk(b"data: " if asked.streams else b'{"id":"'))
    size = int(asked.option("bytes", FLOOD_BYTES))
    yield Flood(answer.chunk(FLOOD_BLOCK), size // len(FLOOD_BLOCK))
    yield Send(answer.END)


def _flood_announced(asked: Asked) -> Steps:
    size = int(asked.option("bytes", FLOOD_BYTES))
    size -= size % len(FLOOD_BLOCK)
    yield Sell(wires.INPUT_TOKENS)
    yield Send(answer.head(200, *answer.kind(asked), (b"content-length", b"%d" % size)))
    yield Flood(FLOOD_BLOCK, size // len(FLOOD_BLOCK))


SCRIPTS = (
    Script("U4.reset", _reset_before_head, "RST before the head"),
    Script("U4.close", _close_before_head, "closed before the head"),
    Script("U5.reset", _reset_in_head, "RST in the middle of the head"),
    Script("U5.close", _close_in_head, "closed in the middle of the head"),
    Script("U5.noise", _speak_otherwise, "another protocol"),
    Script("U5.status", _odd_status, "a status that HTTP has not"),
    Script("U6.in-body", _reset_in_body, "RST in the body, inside a character of an event"),
    Script("U6.after-head", _reset_after_head, "RST when the head is out"),
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
