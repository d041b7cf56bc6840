"""Scripts whose fault is in the content of the body: U11 to U16 and U24."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from headgate_simulator.fault_server import response, wires
from headgate_simulator.fault_server.steps import FaultRequest, Script, Send, Steps

LONG_BYTES = 10 << 20
_LONG_PIECE = b"x" * 65_536


def _say(body: bytes, kind: response.Fields = ()) -> Callable[[FaultRequest], Steps]:
    """Answer 200 with this body; a stream has it as its only event."""

    def play(request: FaultRequest) -> Steps:
        if request.streams and not kind:
            return response.stream(request, [Send(b"data: " + body + b"\n\n")])
        return response.send_whole(request, body) if not kind else _say_as(body, kind)

    return play


def _say_as(body: bytes, kind: response.Fields) -> Steps:
    yield from wires.start_billing()
    yield Send(response.head(200, *kind, response.length(body)) + body)


def _malformed_event(request: FaultRequest) -> Steps:
    """Send one event that is not JSON among good ones; as a buffered answer, such a body."""
    if not request.streams:
        return response.send_whole(request, b'{"id": nope}')
    sends = wires.events(request)
    return response.stream(request, [*sends[:2], Send(b"data: {nope\n\n"), *sends[2:]])


def _truncated(request: FaultRequest) -> Steps:
    """Send JSON that breaks off in a body whose framing is complete."""
    if not request.streams:
        return response.send_whole(request, wires.body(request)[:40])
    sends = wires.events(request)
    return response.stream(request, [*sends[:2], Send(sends[2].data[:40] + b"\n\n")])


def _rewrite(change: Callable[[bytes], bytes]) -> Callable[[FaultRequest], Steps]:
    """Send the correct events in another spelling with the same meaning."""

    def play(request: FaultRequest) -> Steps:
        if not request.streams:
            return response.correct(request)
        sends = [Send(change(s.data), s.tokens, s.states_usage) for s in wires.events(request)]
        return response.stream(request, sends)

    return play


def _mix(event: bytes) -> bytes:
    """Use each kind of line end in turn, with a comment and an unknown field between them."""
    lines = event.rstrip(b"\n").split(b"\n")
    return b": hello\r\nretry: 5\r" + b"\n".join(lines) + b"\r\n\n"


def _bom(request: FaultRequest) -> Steps:
    if not request.streams:
        return response.send_whole(request, b"\xef\xbb\xbf" + wires.body(request))
    first, *rest = wires.events(request)
    return response.stream(request, [Send(b"\xef\xbb\xbf" + first.data, first.tokens), *rest])


def _long_line(request: FaultRequest) -> Steps:
    """Send one line of `bytes`: in an event, or in a string of the JSON."""
    size = int(request.option("bytes", LONG_BYTES))
    long = _LONG_PIECE * (size // len(_LONG_PIECE))
    if not request.streams:
        return response.send_whole(request, b'{"filler":"' + long + b'",' + wires.body(request)[1:])
    return _stream_long(request, long)


def _stream_long(request: FaultRequest, long: bytes) -> Steps:
    sends = wires.events(request)
    yield from response.begin(request)
    yield from response.send_chunks(sends[:2])
    yield Send(response.chunk(b'data: {"filler":"' + long + b'"}\n\n'))
    yield from response.send_chunks(sends[2:])
    yield Send(response.END)


def _split(request: FaultRequest) -> Steps:
    """Send the correct body in two pieces, cut after byte `at`, also inside a character."""
    whole = _joined(request)
    at = int(request.option("at", 1)) % len(whole)
    return _cut_up(request, [whole[:at], whole[at:]])


def _bytes(request: FaultRequest) -> Steps:
    return _cut_up(request, [bytes([byte]) for byte in _joined(request)])


def _joined(request: FaultRequest) -> bytes:
    if request.streams:
        return b"".join(send.data for send in wires.events(request))
    return wires.body(request)


def _cut_up(request: FaultRequest, cuts: list[bytes]) -> Steps:
    yield from response.begin(request)
    for cut in cuts[:-1]:
        if cut:
            yield Send(response.chunk(cut))
    yield Send(response.chunk(cuts[-1]), wires.output_tokens(request.wire), states_usage=True)
    yield Send(response.END)


def _error_at_200(request: FaultRequest) -> Steps:
    if request.streams:
        return response.stream(request, [Send(wires.error_event(request))])
    return response.send_whole(request, json.dumps({"error": wires.ERROR}).encode())


def _error_after_content(request: FaultRequest) -> Steps:
    if request.streams:
        sends = wires.events(request)
        return response.stream(request, [*sends[:3], Send(wires.error_event(request))])
    error = json.dumps(wires.ERROR).encode()
    return response.send_whole(
        request, wires.body(request)[:-1] + b',"error":' + error + b"}", states_usage=True
    )


def _state(read: str | None, written: str | None = None) -> Callable[[FaultRequest], Steps]:
    """Send the correct answer with other numbers in its usage."""

    def play(request: FaultRequest) -> Steps:
        stated = wires.usage(request.wire, read, written)
        return _send_usage(request, stated)

    return play


def _omit_usage(request: FaultRequest) -> Steps:
    return _send_usage(request, None)


def _send_usage(request: FaultRequest, stated: str | None) -> Steps:
    if request.streams:
        return response.stream(request, wires.events(request, stated))
    return response.send_whole(request, wires.body(request, stated))


def _usages() -> Iterator[Script]:
    yield Script("U24.missing", _omit_usage, "no usage")
    numbers = {
        "negative": "-5",
        "nan": "NaN",
        "huge": str(10**18),
        "text": '"1000"',
        "float": "1000.5",
        "object": "{}",
    }
    for name, number in numbers.items():
        yield Script(f"U24.{name}", _state(number, number), f"usage numbers that are {number}")
    yield Script("U24.null", _state("null", "null"), "usage numbers that are null")


_HTML = ((b"content-type", b"text/html"),)
SCRIPTS = (
    Script("U11.malformed", _malformed_event, "text that is not JSON"),
    Script("U11.html", _say(b"<html>Sign in</html>", _HTML), "a page instead of an answer"),
    Script("U11.empty", _say(b"", response.JSON), "an empty body"),
    Script("U11.list", _say(b"[]", response.JSON), "JSON that is not an object"),
    Script("U11.null", _say(b"null", response.JSON), "JSON that is null"),
    Script("U11.bytes", _say(b"\xff\xfe", response.JSON), "bytes that are not text"),
    Script("U12.truncated", _truncated, "JSON that breaks off in a complete body"),
    Script("U13.crlf", _rewrite(lambda e: e.replace(b"\n", b"\r\n")), "lines that end with CRLF"),
    Script("U13.cr", _rewrite(lambda e: e.replace(b"\n", b"\r")), "lines that end with CR"),
    Script("U13.mixed", _rewrite(_mix), "every line end, comments, unknown fields"),
    Script("U13.bom", _bom, "a byte order mark first"),
    Script("U13.long", _long_line, "a line of `bytes` (10 MiB)"),
    Script("U14.split", _split, "cut in two after byte `at`"),
    Script("U14.bytes", _bytes, "cut at every byte"),
    Script("U15.error", _error_at_200, "an error under status 200"),
    Script("U16.error", _error_after_content, "an error after content"),
    *_usages(),
)
