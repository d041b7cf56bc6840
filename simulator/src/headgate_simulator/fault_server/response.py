"""The steps of an answer: its head, its framing, its pieces."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from headgate_simulator.fault_server import wires
from headgate_simulator.fault_server.steps import (
    Close,
    FaultRequest,
    Send,
    StartBilling,
    Step,
    Steps,
)

Fields = Sequence[tuple[bytes, bytes]]
JSON: Fields = ((b"content-type", b"application/json"),)
EVENTS: Fields = ((b"content-type", b"text/event-stream"),)
BYTES: Fields = ((b"content-type", b"application/octet-stream"),)
CHUNKED = (b"transfer-encoding", b"chunked")


def head(status: int, *fields: tuple[bytes, bytes]) -> bytes:
    """Return a head of exactly these fields."""
    lines = [b"HTTP/1.1 %d Whatever" % status, *(b"%b: %b" % field for field in fields)]
    return b"\r\n".join([*lines, b"", b""])


def length(body: bytes) -> tuple[bytes, bytes]:
    return b"content-length", b"%d" % len(body)


def content_type(request: FaultRequest) -> Fields:
    """Return the content type of the wire's correct answer."""
    if request.streams:
        return EVENTS
    return BYTES if request.wire == wires.RAW else JSON


def chunk(data: bytes) -> bytes:
    """Return the data as one chunk of the transfer coding."""
    return b"%x\r\n%b\r\n" % (len(data), data)


END = b"0\r\n\r\n"


def begin(request: FaultRequest, *fields: tuple[bytes, bytes], status: int = 200) -> Steps:
    """Send the head of a chunked answer, from which on the request is charged for."""
    yield StartBilling(wires.INPUT_TOKENS)
    yield Send(head(status, *content_type(request), CHUNKED, *fields))


def send_chunks(sends: Iterable[Send]) -> Steps:
    """Send each piece as a chunk of its own."""
    for send in sends:
        yield Send(chunk(send.data), send.tokens, send.states_usage)


def send_whole(
    request: FaultRequest,
    body: bytes | None = None,
    *fields: tuple[bytes, bytes],
    states_usage: bool = False,
) -> Steps:
    """Send an answer in one piece; without `body` the correct one, which states its usage."""
    states_usage = states_usage or body is None
    body = wires.body(request) if body is None else body
    yield StartBilling(wires.INPUT_TOKENS)
    yield Send(head(200, *content_type(request), length(body), *fields))
    yield Send(body, wires.output_tokens(request.wire), states_usage)


def stream(request: FaultRequest, sends: Iterable[Send], *fields: tuple[bytes, bytes]) -> Steps:
    """Send events, chunked, to their end."""
    yield from begin(request, *fields)
    yield from send_chunks(sends)
    yield Send(END)


def correct(request: FaultRequest, *fields: tuple[bytes, bytes]) -> Steps:
    """Send the correct answer of the wire, buffered or streamed as requested."""
    if request.streams:
        return stream(request, wires.events(request), *fields)
    return send_whole(request, None, *fields)


def send_error(status: int, *fields: tuple[bytes, bytes], body: bytes = b"") -> Steps:
    """Send an error, for which nothing is charged."""
    body = body or b'{"error":{"message":"no","type":"server_error","param":null,"code":"boom"}}'
    yield Send(head(status, *(fields if _has_type(fields) else (*JSON, *fields)), length(body)))
    yield Send(body)


def _has_type(fields: Fields) -> bool:
    return any(name == b"content-type" for name, _ in fields)


def begin_midway(request: FaultRequest) -> tuple[list[Step], bytes]:
    """Return the steps of a correct answer up to about its middle, and the next bytes.

    The bytes begin inside an event or a JSON text and end inside a character of several bytes.
    """
    if request.streams:
        sends = wires.events(request)
        rest = chunk(sends[2].data)
        return [*begin(request), *send_chunks(sends[:2])], rest[: _find_wide(rest) + 1]
    body = wires.body(request)
    steps: list[Step] = [
        StartBilling(wires.INPUT_TOKENS),
        Send(head(200, *content_type(request), length(body))),
        Send(body[: len(body) // 2]),
    ]
    return steps, body[len(body) // 2 :][:1]


def _find_wide(data: bytes) -> int:
    return next(at for at, byte in enumerate(data) if byte > 0x7F)


def then_close(steps: Steps) -> Steps:
    """Perform the steps, then close the connection."""
    yield from steps
    yield Close()
