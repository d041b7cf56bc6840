"""Scripts whose fault is a refusal, a coding, a redirect or a header: U17, U18, U21 to U23."""

from __future__ import annotations

import email.utils
import json
import time
from collections.abc import Callable, Iterator

from headgate_simulator.fault_server import bombs, response, wires
from headgate_simulator.fault_server.steps import Close, FaultRequest, Script, Send, Steps

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


def _refuse(status: int, *fields: tuple[bytes, bytes]) -> Callable[[FaultRequest], Steps]:
    return lambda _request: response.send_error(status, *fields)


def _advise(value: bytes) -> Callable[[FaultRequest], Steps]:
    return _refuse(429, (b"retry-after", value))


def _advise_date(_request: FaultRequest) -> Steps:
    date = email.utils.formatdate(time.time() + _DATE_SECONDS, usegmt=True)
    return response.send_error(429, (b"retry-after", date.encode()))


def _bomb(coding: str, status: int = 200) -> Callable[[FaultRequest], Steps]:
    """Send a bomb as the answer (200), as an error, or as the body of a redirect."""
    name, make = _CODINGS[coding]

    def play(request: FaultRequest) -> Steps:
        field = (b"content-encoding", name)
        if status == 200:
            return response.send_whole(request, make(), field)
        where = ((b"location", METADATA),) if status < 400 else ()
        return response.send_error(status, *response.JSON, field, *where, body=make())

    return play


def _redirect(status: int, where: bytes = b"") -> Callable[[FaultRequest], Steps]:
    """Redirect to an address, or to the second port of this server, which nobody should call."""

    def play(request: FaultRequest) -> Steps:
        location = where or request.elsewhere.encode()
        return response.send_error(status, (b"location", location), body=b"{}")

    return play


def _dress(*fields: tuple[bytes, bytes]) -> Callable[[FaultRequest], Steps]:
    """Send the correct answer with further headers."""
    return lambda request: response.correct(request, *fields)


def _inject(request: FaultRequest) -> Steps:
    """Send a folded line, and a lone CR in a value: two ways to smuggle a header."""
    return response.then_close(
        response.correct(
            request, (b"x-request-id", b"a\r\n\tset-cookie: a=b"), (b"openai-x", b"a\rb: c")
        )
    )


def _echo_in_header(request: FaultRequest) -> Steps:
    return response.correct(
        request, (b"x-request-id", request.key), (b"openai-organization", request.key)
    )


def _echo_in_body(request: FaultRequest) -> Steps:
    """Send the caller's key in the text of the answer; in a stream, inside one event."""
    return _echo(request, lambda data: [data])


def _echo_in_pieces(request: FaultRequest) -> Steps:
    """Send the caller's key as in `_echo_in_body`, each byte on its own."""
    return _echo(request, lambda data: [bytes([byte]) for byte in data])


def _echo(request: FaultRequest, cut: Callable[[bytes], list[bytes]]) -> Steps:
    yield from response.begin(request)
    for send in _with_key(request):
        *cuts, last = cut(send.data)
        for piece in cuts:
            yield Send(response.chunk(piece))
        yield Send(response.chunk(last), send.tokens, send.states_usage)
    yield Send(response.END)


def _with_key(request: FaultRequest) -> list[Send]:
    if request.wire == wires.RAW and not request.streams:
        return [Send(wires.body(request) + request.key + b"\n")]
    if not request.streams:
        body = wires.body(request)[:-1] + b',"note":"' + request.key + b'"}'
        return [Send(body, wires.output_tokens(request.wire), states_usage=True)]
    sends = wires.events(request)
    event = sends[1].data.replace(b"}\n\n", b',"note":"' + request.key + b'"}\n\n')
    return [sends[0], Send(event, sends[1].tokens), *sends[2:]]


def _echo_in_error(request: FaultRequest) -> Steps:
    message = f"Incorrect API key provided: {request.key.decode('latin-1')}."
    error = {"message": message, "type": "invalid_request_error", "code": "invalid_api_key"}
    return response.send_error(401, body=json.dumps({"error": error}).encode())


def _echo_in_stream_error(request: FaultRequest) -> Steps:
    """Send the caller's key in an error after content, or in one under status 200."""
    message = request.key.decode("latin-1")
    event = wires.error_event(request).replace(wires.ERROR_MESSAGE.encode(), message.encode())
    if request.streams:
        return response.stream(request, [*wires.events(request)[:2], Send(event)])
    return response.send_whole(
        request, json.dumps({"error": {**wires.ERROR, "message": message}}).encode()
    )


def _large_head(request: FaultRequest) -> Steps:
    """Send a head of 1 MiB in one value."""
    yield from wires.start_billing()
    yield Send(
        response.head(200, *response.content_type(request), (b"x-large", b"a" * LARGE_BYTES))
    )
    yield Close()


def _many_fields(request: FaultRequest) -> Steps:
    fields = [(b"x-%d" % number, b"a") for number in range(MANY)]
    yield from wires.start_billing()
    yield Send(response.head(200, *response.content_type(request), *fields))
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
    Script("U17.garbage", _advise(b"soon"), "429 with a retry-after that is not a time"),
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
