"""Scripts whose fault is in what the body says: U11 to U16, U24."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator

from headgate_simulator.fault_line import answer, wires
from headgate_simulator.fault_line.steps import Asked, Script, Send, Steps

LONG_BYTES = 10 << 20
_LONG_PIECE = b"x" * 65_536


def _say(body: bytes, kind: answer.Fields = ()) -> Callable[[Asked], Steps]:
    """A buffered 200 with this body; where a stream was asked for, one event of it and the end."""

    def play(asked: Asked) -> Steps:
        if asked.streams and not kind:
            return answer.stream(asked, [Send(b"data: " + body + b"\n\n")])
        return answer.whole(asked, body) if not kind else _say_as(body, kind)

    return play


def _say_as(body: bytes, kind: answer.Fields) -> Steps:
    yield from wires.sell()
    yield Send(answer.head(200, *kind, answer.length(body)) + body)


def _malformed_event(asked: Asked) -> Steps:
    """One event that is no JSON among good ones; for a buffered answer, such a body."""
    if not asked.streams:
        return answer.whole(asked, b'{"id": nope}')
    sends = wires.events(asked)
    return answer.stream(asked, [*sends[:2], Send(b"data: {nope\n\n"), *sends[2:]])


def _truncated(asked: Asked) -> Steps:
    """JSON that breaks off, in a body that is complete: its framing has no fault."""
    if not asked.streams:
        return answer.whole(asked, wires.body(asked)[:40])
    sends = wires.events(asked)
    return answer.stream(asked, [*sends[:2], Send(sends[2].data[:40] + b"\n\n")])


def _rewrite(change: Callable[[bytes], bytes]) -> Callable[[Asked], Steps]:
    """The right events in other spellings that say the same."""

    def play(asked: Asked) -> Steps:
        if not asked.streams:
            return answer.right(asked)
        sends = [Send(change(s.data), s.tokens, s.tells) for s in wires.events(asked)]
        return answer.stream(asked, sends)

    return play


def _mix(event: bytes) -> bytes:
    """Each kind of line end in turn, a comment and a field that nobody knows between them."""
    lines = event.rstrip(b"\n").split(b"\n")
    return b": hello\r\nretry: 5\r" + b"\n".join(lines) + b"\r\n\n"


def _bom(asked: Asked) -> Steps:
    if not asked.streams:
        return answer.whole(asked, b"\xef\xbb\xbf" + wires.body(asked))
    first, *rest = wires.events(asked)
    return answer.stream(asked, [Send(b"\xef\xbb\xbf" + first.data, first.tokens), *rest])


def _long_line(asked: Asked) -> Steps:
    """One line of `bytes`: in an event, or in a string of the JSON."""
    size = int(asked.option("bytes", LONG_BYTES))
    long = _LONG_PIECE * (size // len(_LONG_PIECE))
    if not asked.streams:
        return answer.whole(asked, b'{"filler":"' + long + b'",' + wires.body(asked)[1:])
    return _stream_long(asked, long)


def _stream_long(asked: Asked, long: bytes) -> Steps:
    sends = wires.events(asked)
    yield from answer.begin(asked)
    yield from answer.pieces(sends[:2])
    yield Send(answer.chunk(b'data: {"filler":"' + long + b'"}\n\n'))
    yield from answer.pieces(sends[2:])
    yield Send(answer.END)


def _split(asked: Asked) -> Steps:
    """The right body in two pieces, cut after byte `at`: any character may be cut."""
    whole = _joined(asked)
    at = int(asked.option("at", 1)) % len(whole)
    return _cut_up(asked, [whole[:at], whole[at:]])


def _bytes(asked: Asked) -> Steps:
    return _cut_up(asked, [bytes([byte]) for byte in _joined(asked)])


def _joined(asked: Asked) -> bytes:
    if asked.streams:
        return b"".join(send.data for send in wires.events(asked))
    return wires.body(asked)


def _cut_up(asked: Asked, cuts: list[bytes]) -> Steps:
    yield from answer.begin(asked)
    for cut in cuts[:-1]:
        if cut:
            yield Send(answer.chunk(cut))
    yield Send(answer.chunk(cuts[-1]), wires.output_tokens(asked.wire), tells=True)
    yield Send(answer.END)


def _error_at_200(asked: Asked) -> Steps:
    if asked.streams:
        return answer.stream(asked, [Send(wires.error_event(asked))])
    return answer.whole(asked, json.dumps({"error": wires.ERROR}).encode())


def _error_after_content(asked: Asked) -> Steps:
    if asked.streams:
        sends = wires.events(asked)
        return answer.stream(asked, [*sends[:3], Send(wires.error_event(asked))])
    error = json.dumps(wires.ERROR).encode()
    return answer.whole(asked, wires.body(asked)[:-1] + b',"error":' + error + b"}", tells=True)


def _state(read: str | None, written: str | None = None) -> Callable[[Asked], Steps]:
    """The right answer, but for the numbers of its usage."""

    def play(asked: Asked) -> Steps:
        stated = wires.usage(asked.wire, read, written)
        return _tell(asked, stated)

    return play


def _tell_nothing(asked: Asked) -> Steps:
    return _tell(asked, None)


def _tell(asked: Asked, stated: str | None) -> Steps:
    if asked.streams:
        return answer.stream(asked, wires.events(asked, stated))
    return answer.whole(asked, wires.body(asked, stated))


def _usages() -> Iterator[Script]:
    yield Script("U24.missing", _tell_nothing, "no usage")
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
    Script("U11.malformed", _malformed_event, "JSON that is none"),
    Script("U11.html", _say(b"<html>Sign in</html>", _HTML), "a page instead of an answer"),
    Script("U11.empty", _say(b"", answer.JSON), "an empty body"),
    Script("U11.list", _say(b"[]", answer.JSON), "JSON that is no object"),
    Script("U11.null", _say(b"null", answer.JSON), "JSON that is null"),
    Script("U11.bytes", _say(b"\xff\xfe", answer.JSON), "bytes that are no text"),
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
