"""Scripts whose fault is a refusal, a coding, a redirect or a header: U17, U18, U21 to U23."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Iterator

from headgate_simulator.fault_line import answer, bombs, wires
from headgate_simulator.fault_line.steps import Asked, Close, Script, Send, Steps

METADATA = b"http://169.254.169.254/latest/meta-data/"
LARGE_BYTES = 1 << 20
MANY = 2_000
_CODINGS: dict[str, tuple[bytes, Callable[[], bytes]]] = {
    "gzip": (b"gzip", bombs.gzip),
    "br": (b"br", bombs.brotli),
    "zstd": (b"zstd", bombs.zstd),
    "nested": (b"gzip, gzip", bombs.nested),
}
_DATE_SECONDS = 3600


def _refuse(status: int, *fields: tuple[bytes, bytes]) -> Callable[[Asked], Steps]:
    return lambda _asked: answer.refuse(status, *fields)


def _advise(value: bytes) -> Callable[[Asked], Steps]:
    return _refuse(429, (b"retry-after", value))


def _advise_date(_asked: Asked) -> Steps:
    date = email.utils.formatdate(time.time() + _DATE_SECONDS, usegmt=True)
    return answer.refuse(429, (b"retry-after", date.encode()))


def _bomb(coding: str, status: int = 200) -> Callable[[Asked], Steps]:
    """A bomb as the answer (200), as an error, or as the body of a redirect."""
    name, make = _CODINGS[coding]

    def play(asked: Asked) -> Steps:
        field = (b"content-encoding", name)
        if status == 200:
            return answer.whole(asked, make(), field)
        where = ((b"location", METADATA),) if status < 400 else ()
        return answer.refuse(status, *answer.JSON, field, *where, body=make())

    return play


def _redirect(status: int, where: bytes = b"") -> Callable[[Asked], Steps]:
    """To an address, or to the other host that listens for whom it should not hear."""

    def play(asked: Asked) -> Steps:
        location = where or asked.elsewhere.encode()
        return answer.refuse(status, (b"location", location), body=b"{}")

    return play


def _dress(*fields: tuple[bytes, bytes]) -> Callable[[Asked], Steps]:
    """The right answer with further headers."""
    return lambda asked: answer.right(asked, *fields)


def _inject(asked: Asked) -> Steps:
    """A line that is folded, and a lone CR in a value: two ways to smuggle a header."""
    return answer.closed(
        answer.right(asked, (b"x-request-id", b"a\r\n\tset-cookie: a=b"), (b"openai-x", b"a\rb: c"))
    )


def _echo_in_header(asked: Asked) -> Steps:
    return answer.right(asked, (b"x-request-id", asked.key), (b"openai-organization", asked.key))


def _echo_in_body(asked: Asked) -> Steps:
    """The key in the text of an answer; in a stream, inside one event."""
    return _echo(asked, lambda data: [data])


def _echo_in_pieces(asked: Asked) -> Steps:
    """The same with every byte apart."""
    return _echo(asked, lambda data: [bytes([byte]) for byte in data])


def _echo(asked: Asked, cut: Callable[[bytes], list[bytes]]) -> Steps:
    yield from answer.begin(asked)
    for send in _with_key(asked):
        *cuts, last = cut(send.data)
        for piece in cuts:
            yield Send(answer.chunk(piece))
        yield Send(answer.chunk(last), send.tokens, send.tells)
    yield Send(answer.END)


def _with_key(asked: Asked) -> list[Send]:
    if asked.wire == wires.RAW and not asked.streams:
        return [Send(wires.body(asked) + asked.key + b"\n")]
    if not asked.streams:
        body = wires.body(asked)[:-1] + b',"note":"' + asked.key + b'"}'
        return [Send(body, wires.output_tokens(asked.wire), tells=True)]
    sends = wires.events(asked)
    event = sends[1].data.replace(b"}\n\n", b',"note":"' + asked.key + b'"}\n\n')
    return [sends[0], Send(event, sends[1].tokens), *sends[2:]]


def _echo_in_error(asked: Asked) -> Steps:
    message = f"Incorrect API key provided: {asked.key.decode('latin-1')}."
    error = {"message": message, "type": "invalid_request_error", "code": "invalid_api_key"}
    return answer.refuse(401, body=json.dumps({"error": error}).encode())


def _echo_in_stream_error(asked: Asked) -> Steps:
    """The key in an error after content, or in one under status 200."""
    message = asked.key.decode("latin-1")
    event = wires.error_event(asked).replace(wires.ERROR_MESSAGE.encode(), message.encode())
    if asked.streams:
        return answer.stream(asked, [*wires.events(asked)[:2], Send(event)])
    return answer.whole(asked, json.dumps({"error": {**wires.ERROR, "message": message}}).encode())


def _large_head(asked: Asked) -> Steps:
    """A head of a mebibyte, in one value."""
    yield from wires.sell()
    yield Send(answer.head(200, *answer.kind(asked), (b"x-large", b"a" * LARGE_BYTES)))
    yield Close()


def _many_fields(asked: Asked) -> Steps:
    fields = [(b"x-%d" % number, b"a") for number in range(MANY)]
    yield from wires.sell()
    yield Send(answer.head(200, *answer.kind(asked), *fields))
    yield Close()


def _bombs() -> Iterator[Script]:
    for coding in _CODINGS:
        yield Script(f"U21.{coding}", _bomb(coding), f"{coding} of 1 GiB of zeros")
    yield Script("U21.error", _bomb("gzip", 400), "the same on an error")
    yield Script("U21.retried", _bomb("gzip", 503), "the same on an error that is tried again")
    yield Script("U21.redirect", _bomb("gzip", 302), "the same on a redirect")


_COOKIES = _dress((b"set-cookie", b"a=b"), (b"server", b"secret/1.0"), (b"via", b"1.1 inner"))
SCRIPTS = (
    Script("U17.second", _advise(b"1"), "429 with retry-after 1"),
    Script("U17.hour", _advise(b"3600"), "429 with retry-after 3600"),
    Script("U17.date", _advise_date, "429 with a date in an hour"),
    Script("U17.garbage", _advise(b"soon"), "429 with a retry-after that says nothing"),
    Script("U17.negative", _advise(b"-5"), "429 with a retry-after below zero"),
    *(
        Script(f"U18.{status}", _refuse(status), f"status {status}")
        for status in (500, 502, 503, 529)
    ),
    *_bombs(),
    Script("U22.private", _redirect(302, METADATA), "a redirect to a private address"),
    Script("U22.other", _redirect(307), "a redirect to another host, which listens"),
    Script("U23.inject", _inject, "a folded header, and a lone CR in one"),
    Script("U23.large", _large_head, "a header of 1 MiB"),
    Script("U23.many", _many_fields, "2,000 headers"),
    Script("U23.cookie", _COOKIES, "cookies and names of servers"),
    Script("U23.echo-header", _echo_in_header, "the key in headers"),
    Script("U23.echo-body", _echo_in_body, "the key in the body"),
    Script("U23.echo-pieces", _echo_in_pieces, "the key in the body, every byte apart"),
    Script("U23.echo-error", _echo_in_error, "the key in an error"),
    Script("U23.echo-event", _echo_in_stream_error, "the key in an error under status 200"),
)
