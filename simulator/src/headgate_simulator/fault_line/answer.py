"""Puts an answer together: its head, its framing, its pieces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headgate_simulator.fault_line import wires
from headgate_simulator.fault_line.steps import Asked, Close, Sell, Send, Step, Steps

Fields = Sequence[tuple[bytes, bytes]]
JSON: Fields = ((b"content-type", b"application/json"),)
EVENTS: Fields = ((b"content-type", b"text/event-stream"),)
BYTES: Fields = ((b"content-type", b"application/octet-stream"),)
CHUNKED = (b"transfer-encoding", b"chunked")


def head(status: int, *fields: tuple[bytes, bytes]) -> bytes:
    """The lines of a head, as they are given."""
    lines = [b"HTTP/1.1 %d Whatever" % status, *(b"%b: %b" % field for field in fields)]
    return b"\r\n".join([*lines, b"", b""])


def length(body: bytes) -> tuple[bytes, bytes]:
    """The header that tells the body's length."""
    return b"content-length", b"%d" % len(body)


def kind(asked: Asked) -> Fields:
    """The content type of the wire's right answer."""
    if asked.streams:
        return EVENTS
    return BYTES if asked.wire == wires.RAW else JSON


def chunk(data: bytes) -> bytes:
    """One chunk of chunked framing."""
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def begin(asked: Asked, *fields: tuple[bytes, bytes], status: int = 200) -> Steps:
    """The head of a chunked answer, from which on it is charged for."""
    yield Sell(wires.INPUT_TOKENS)
    yield Send(head(status, *kind(asked), CHUNKED, *fields))


def pieces(sends: Iterable[Send]) -> Steps:
    """Each piece as a chunk of its own."""
    for send in sends:
        yield Send(chunk(send.data), send.tokens, send.tells)


def whole(
    asked: Asked, body: bytes | None = None, *fields: tuple[bytes, bytes], tells: bool = False
) -> Steps:
    """An answer in one piece; without a body the wire's right one, which `tells` its usage."""
    tells = tells or body is None
    body = wires.body(asked) if body is None else body
    yield Sell(wires.INPUT_TOKENS)
    yield Send(head(200, *kind(asked), length(body), *fields))
    yield Send(body, wires.output_tokens(asked.wire), tells)


def stream(asked: Asked, sends: Iterable[Send], *fields: tuple[bytes, bytes]) -> Steps:
    """Events, chunked, to their end."""
    yield from begin(asked, *fields)
    yield from pieces(sends)
    yield Send(END)


def right(asked: Asked, *fields: tuple[bytes, bytes]) -> Steps:
    """The right answer of the wire, as it was asked for."""
    if asked.streams:
        return stream(asked, wires.events(asked), *fields)
    return whole(asked, None, *fields)


def refuse(status: int, *fields: tuple[bytes, bytes], body: bytes = b"") -> Steps:
    """An error answer, for which nothing is charged."""
    body = body or b'{"error":{"message":"no","type":"server_error","param":null,"code":"boom"}}'
    yield Send(head(status, *(fields if _has_type(fields) else (*JSON, *fields)), length(body)))
    yield Send(body)


def _has_type(fields: Fields) -> bool:
    return any(name == b"content-type" for name, _ in fields)


def begun(asked: Asked) -> tuple[list[Step], bytes]:
    """A right answer up to about its middle, and the first bytes of what would follow.

    The rest begins in an event or a JSON text and ends inside a character of several bytes.
    """
    if asked.streams:
        sends = wires.events(asked)
        rest = chunk(sends[2].data)
        return [*begin(asked), *pieces(sends[:2])], rest[: _find_wide(rest) + 1]
    body = wires.body(asked)
    steps: list[Step] = [
        Sell(wires.INPUT_TOKENS),
        Send(head(200, *kind(asked), length(body))),
        Send(body[: len(body) // 2]),
    ]
    return steps, body[len(body) // 2 :][:1]


def _find_wide(data: bytes) -> int:
    return next(at for at, byte in enumerate(data) if byte > 0x7F)


def closed(steps: Steps) -> Steps:
    """The steps, and then the end of the connection."""
    yield from steps
    yield Close()
