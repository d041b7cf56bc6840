"""One request and its answer: what is on the wire, and what the handler learns of the client."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Awaitable, Callable

import pytest

from headgate.gateway.exchange import BUFFERED_BODY_BYTES, InboundExchange
from headgate.kit.errors import HeadgateError
from tests.fakes.edge_connection import GET, EdgeConnection, ScriptedHandler

pytestmark = pytest.mark.anyio
DATE = re.compile(rb"date: \w{3}, \d\d \w{3} \d{4} \d\d:\d\d:\d\d GMT\r\n")
HEAD = GET.replace(b"GET", b"HEAD")
OLD = b"GET /v1/x HTTP/1.0\r\nconnection: keep-alive\r\n\r\n"
STREAM = b"POST /v1/x HTTP/1.1\r\nhost: a\r\ntransfer-encoding: chunked\r\n\r\n"
Script = Callable[[InboundExchange], Awaitable[None]]


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class RecordingListener:
    """Record what the exchange reports to its listener."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pause(self) -> None:
        self.told.append("pause")

    def resume(self) -> None:
        self.told.append("resume")

    def connection_lost(self) -> None:
        self.told.append("connection_lost")


async def serve(
    raw: bytes, script: Script, prepare: Callable[[InboundExchange], None]
) -> EdgeConnection:
    connection = EdgeConnection(ScriptedHandler(script, prepare))
    await connection.send(raw)
    await connection.settle()
    return connection


async def render_response(raw: bytes, script: Script) -> tuple[bytes, bool]:
    """Return the bytes on the wire without the date, and whether the connection goes on."""
    connection = await serve(raw, script, lambda _: None)
    goes_on = not connection.transport.closed
    written, dates = DATE.subn(b"", connection.transport.written)
    assert dates == 1
    await connection.close()
    return written, goes_on


async def test_content_length_is_computed_whatever_the_head_says() -> None:
    named = b"x-headgate-model: content-length: 9\r\n"

    async def answer(exchange: InboundExchange) -> None:
        exchange.answer(200, named, b"abc")

    async def stream(exchange: InboundExchange) -> None:
        exchange.start(200, named)
        exchange.write(b"abc")
        exchange.finish()

    said, goes_on = await render_response(GET, answer)
    assert (said, goes_on) == (
        b"HTTP/1.1 200 OK\r\n" + named + b"content-length: 3\r\n\r\nabc",
        True,
    )
    said, goes_on = await render_response(GET, stream)
    assert (said, goes_on) == (
        b"HTTP/1.1 200 OK\r\n" + named + b"transfer-encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n",
        True,
    )


@pytest.mark.parametrize(
    ("raw", "status", "head", "said", "goes_on"),
    [
        (GET, 200, b"", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nabc", True),
        (GET, 204, b"a: b\r\n", b"HTTP/1.1 204 No Content\r\na: b\r\n\r\nabc", True),
        (GET, 304, b"", b"HTTP/1.1 304 Not Modified\r\n\r\nabc", True),
        (GET, 205, b"", b"HTTP/1.1 205 Reset Content\r\ncontent-length: 3\r\n\r\nabc", True),
        (GET, 305, b"", b"HTTP/1.1 305 Use Proxy\r\ncontent-length: 3\r\n\r\nabc", True),
        (GET, 599, b"", b"HTTP/1.1 599 \r\ncontent-length: 3\r\n\r\nabc", True),
        (
            HEAD,
            200,
            b"content-length: 99\r\n",
            b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n",
            True,
        ),
        (HEAD, 200, b"", b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\n", True),
        (
            OLD,
            200,
            b"",
            b"HTTP/1.1 200 OK\r\nconnection: keep-alive\r\ncontent-length: 3\r\n\r\nabc",
            True,
        ),
        (
            OLD.replace(b"keep-alive", b"close"),
            200,
            b"",
            b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 3\r\n\r\nabc",
            False,
        ),
    ],
)
async def test_whole_answer_has_content_length_and_connection_headers(
    raw: bytes, status: int, head: bytes, said: bytes, goes_on: bool
) -> None:
    async def script(exchange: InboundExchange) -> None:
        exchange.answer(status, head, b"abc")

    assert await render_response(raw, script) == (said, goes_on)


CHUNKED = b"transfer-encoding: chunked\r\n"
CHUNKS = b"3\r\nabc\r\n1a\r\n" + b"d" * 26 + b"\r\n"
PLAIN = b"abc" + b"d" * 26


@pytest.mark.parametrize(
    ("raw", "head", "complete", "said", "goes_on"),
    [
        (GET, b"", True, CHUNKED + b"\r\n" + CHUNKS + b"0\r\n\r\n", True),
        (GET, b"", False, CHUNKED + b"\r\n" + CHUNKS, False),
        (GET, b"content-length: 29\r\n", True, b"content-length: 29\r\n\r\n" + PLAIN, True),
        (GET, b"content-length: 99\r\n", False, b"content-length: 99\r\n\r\n" + PLAIN, False),
        (HEAD, b"", True, CHUNKED + b"\r\n", True),
        (HEAD, b"content-length: 29\r\n", True, b"content-length: 29\r\n\r\n", True),
        (OLD, b"", True, b"connection: close\r\n\r\n" + PLAIN, False),
        (
            OLD,
            b"content-length: 29\r\n",
            True,
            b"content-length: 29\r\nconnection: keep-alive\r\n\r\n" + PLAIN,
            True,
        ),
        (
            GET.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n"),
            b"",
            True,
            b"connection: close\r\n" + CHUNKED + b"\r\n" + CHUNKS + b"0\r\n\r\n",
            False,
        ),
    ],
)
async def test_streamed_answer_is_framed_for_the_clients_http_version(
    raw: bytes, head: bytes, complete: bool, said: bytes, goes_on: bool
) -> None:
    async def script(exchange: InboundExchange) -> None:
        assert not exchange.response_started
        exchange.start(200, head)
        assert exchange.response_started
        exchange.write(b"abc")
        exchange.write(b"d" * 26)
        for _ in range(2):
            if complete:
                exchange.finish()
            else:
                exchange.finish(complete=False)

    assert await render_response(raw, script) == (b"HTTP/1.1 200 OK\r\n" + said, goes_on)


async def test_nothing_is_written_to_a_disconnected_client() -> None:
    going = asyncio.Event()

    async def script(exchange: InboundExchange) -> None:
        reader.told.append("run")
        exchange.set_listener(reader)
        exchange.start(200, b"")
        await going.wait()
        exchange.write(b"abc")
        exchange.finish()
        assert exchange.response_complete

    reader = RecordingListener()
    connection = await serve(GET, script, lambda _: None)
    before = connection.transport.written
    await connection.close()
    connection.transport.closed = False
    going.set()
    await connection.settle()
    assert connection.transport.written == before
    assert reader.told == ["run", "connection_lost"]


async def test_listener_is_paused_and_resumed_with_the_client() -> None:
    async def script(exchange: InboundExchange) -> None:
        exchange.set_listener(reader)
        exchange.set_listener(None)
        exchange.set_listener(reader)
        await asyncio.Event().wait()

    async def start_late(exchange: InboundExchange) -> None:
        exchange.set_listener(late)
        exchange.set_listener(None)
        await asyncio.Event().wait()

    reader, late = RecordingListener(), RecordingListener()
    connection = await serve(GET, script, lambda _: None)
    connection.protocol.pause_writing()
    connection.protocol.resume_writing()
    assert reader.told == ["pause", "resume"]
    await connection.close()
    assert reader.told == ["pause", "resume", "connection_lost"]
    handler = ScriptedHandler(start_late)
    slow = EdgeConnection(handler)
    slow.protocol.pause_writing()
    await slow.send(GET)
    await slow.settle()
    assert late.told == ["pause"]
    for exchange in handler.exchanges:
        exchange.abandon()
    await slow.settle()
    assert handler.exchanges[0].task is not None
    assert handler.exchanges[0].task.cancelled()
    await slow.close()
    assert late.told == ["pause"]


def test_new_exchange_has_defaults() -> None:
    line_less = InboundExchange(
        None,  # pyright: ignore[reportArgumentType]
        b"GET",
        b"/v1/x",
        [],
        http_version="1.1",
        keep_alive=True,
    )
    line_less.abandon()
    flags = ("body_complete", "expects_continue", "gone", "may_take_long", "response_complete")
    assert [getattr(line_less, name) for name in flags] == [False] * 5
    assert (line_less.streams_body, line_less.response_started) == (False, False)
    assert (line_less.content_length, line_less.request_head, line_less.refusal) == (
        None,
        None,
        None,
    )
    assert (line_less.body_bytes_max, line_less.waiting_bytes) == (0, 0)


class BodyReader:
    """A script for a handler that reads a streamed body of at most 8 bytes, piece by piece."""

    def __init__(self, bytes_max: int = 8) -> None:
        self.pieces: list[bytes] = []
        self.end: HeadgateError | None = None
        self.exchange: InboundExchange | None = None
        self._bytes_max = bytes_max

    def prepare(self, exchange: InboundExchange) -> None:
        self.exchange = exchange
        exchange.body_bytes_max = self._bytes_max
        exchange.streams_body = True

    async def __call__(self, exchange: InboundExchange) -> None:
        try:
            async for piece in exchange.stream_body():
                assert exchange.waiting_bytes == 0
                self.pieces.append(piece)
        except HeadgateError as error:
            self.end = error
        exchange.answer(200, b"", b"")


async def test_streamed_body_is_yielded_as_it_arrives() -> None:
    body = BodyReader()
    connection = await serve(STREAM, body, body.prepare)
    await connection.send(b"2\r\nab\r\n2\r\ncd\r\n")
    await connection.settle()
    assert body.pieces == [b"abcd"]
    await connection.send(b"4\r\nefgh\r\n0\r\n\r\n")
    await connection.settle()
    assert (body.pieces, body.end, connection.statuses) == ([b"abcd", b"efgh"], None, [200])
    await connection.close()


async def test_streamed_body_over_the_limit_is_refused_with_the_limit() -> None:
    body = BodyReader()
    connection = await serve(STREAM, body, body.prepare)
    await connection.send(b"4\r\nabcd\r\n")
    await connection.settle()
    await connection.send(b"5\r\nefghi\r\n")
    await connection.settle()
    assert body.pieces == [b"abcd"]
    assert body.end is not None
    assert body.end.message == "The request body is larger than the 8 bytes allowed here."
    assert b"connection: close" in connection.transport.written
    await connection.close()


async def test_streamed_body_breaks_when_the_sender_disconnects() -> None:
    body = BodyReader()
    connection = await serve(STREAM + b"2\r\nab\r\n", body, body.prepare)
    await connection.close()
    await connection.settle()
    assert body.pieces == [b"ab"]
    assert body.end is not None
    assert body.end.code == "request_body_broken"
    assert body.end.message == "The connection closed before the body was complete."


async def test_malformed_streamed_body_raises_the_error() -> None:
    body = BodyReader()
    connection = await serve(STREAM + b"2\r\nab\r\n", body, body.prepare)
    await connection.send(b"x")
    await connection.settle()
    assert body.pieces == [b"ab"]
    assert body.end is not None
    assert body.end.code == "malformed_request"
    await connection.close()


async def test_sender_is_paused_while_much_of_its_body_is_unread() -> None:
    reading = asyncio.Event()
    body = BodyReader(bytes_max=10**6)

    async def script(exchange: InboundExchange) -> None:
        await reading.wait()
        await body(exchange)

    length = BUFFERED_BODY_BYTES + 1
    connection = await serve(
        b"POST /v1/x HTTP/1.1\r\nhost: a\r\ncontent-length: %d\r\n\r\n" % (length + 2),
        script,
        body.prepare,
    )
    await connection.send(b"x" * BUFFERED_BODY_BYTES)
    assert not connection.transport.paused
    await connection.send(b"x")
    assert connection.transport.paused
    assert connection.protocol.deadline == 0.0
    assert body.exchange is not None
    assert body.exchange.waiting_bytes == length
    reading.set()
    await connection.settle()
    assert not connection.transport.paused
    assert connection.protocol.deadline > connection.loop.now
    await connection.send(b"yz")
    await connection.settle()
    assert b"".join(body.pieces) == b"x" * length + b"yz"
    assert connection.statuses == [200]
    await connection.close()
