"""How responses are read from the wire: framing, keep-alive, limits, faults of the peer."""

from __future__ import annotations

import asyncio
import gc
import weakref
from typing import Any

import pytest

from bench.in_process import QUIET
from headgate.kit.http.client import HttpClient
from headgate.kit.http.connection import HeadLimits, UpstreamConnection
from headgate.kit.http.errors import (
    DisconnectedError,
    EgressError,
    MalformedResponseError,
    ResponseHeadTooLargeError,
    ResponseTooLargeError,
)
from headgate.kit.http.message import Origin, Request, Timeouts

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
CHUNKED = (
    b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nTransfer-Encoding: chunked\r\n\r\n"
    b"3;x=y\r\nfoo\r\nb\r\nhello world\r\n0\r\nX-Trailer: a\r\nX-More: b\r\n\r\n"
)


def answer(data: bytes, *, close: bool = False) -> Any:
    """Every request of a connection gets these bytes."""

    async def script(peer: Any) -> None:
        while True:
            await peer.take()
            await peer.give(data)
            if close:
                return

    return script


async def fetch(client: HttpClient, upstream: Any, *, method: bytes = b"POST") -> Any:
    response = await client.send(upstream.request(method=method))
    return response.status, response.headers, await response.read(1 << 20)


@pytest.mark.parametrize(
    ("data", "status", "body", "kept"),
    [
        (OK, 200, b"ok", 1),
        (CHUNKED, 200, b"foohello world", 1),
        (b"HTTP/1.1 204 No\r\n\r\n", 204, b"", 1),
        (b"HTTP/1.1 304 Same\r\ncontent-length: 9\r\n\r\n", 304, b"", 1),
        (b"HTTP/1.1 100 Go\r\n\r\nHTTP/1.1 103 Hints\r\nlink: a\r\n\r\n" + OK, 200, b"ok", 1),
        (b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", 0),
        (b"HTTP/1.0 200 OK\r\ncontent-length: 2\r\n\r\nok", 200, b"ok", 0),
        (
            b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ncontent-length: 2\r\n\r\nok",
            200,
            b"ok",
            1,
        ),
        (b"HTTP/1.1 302 Go\r\nlocation: /b\r\ncontent-length: 0\r\n\r\n", 302, b"", 1),
    ],
)
async def test_response_of_each_framing_is_read_and_its_connection_kept_if_it_may(
    serve: Any, client: HttpClient, data: bytes, status: int, body: bytes, kept: int
) -> None:
    upstream = await serve(answer(data))
    for _ in range(2):
        assert (await fetch(client, upstream))[::2] == (status, body)
        assert client.stats().idle == kept
    assert upstream.connections == 2 - kept


async def test_trailers_and_interim_heads_are_not_taken_for_headers(
    serve: Any, client: HttpClient
) -> None:
    upstream = await serve(answer(b"HTTP/1.1 103 Hints\r\nlink: a\r\n\r\n" + CHUNKED))
    response = await client.send(upstream.request())
    await response.read(100)
    assert response.headers == [
        (b"content-type", b"text/plain"),
        (b"transfer-encoding", b"chunked"),
    ]


async def test_body_without_length_ends_with_the_connection(serve: Any, client: HttpClient) -> None:
    upstream = await serve(answer(b"HTTP/1.1 200 OK\r\n\r\nall there is", close=True))
    assert (await fetch(client, upstream))[2] == b"all there is"
    assert client.stats().idle == 0


async def test_head_request_has_no_body_whatever_the_head_says(
    serve: Any, client: HttpClient
) -> None:
    upstream = await serve(answer(b"HTTP/1.1 200 OK\r\ncontent-length: 99\r\n\r\n"))
    assert (await fetch(client, upstream, method=b"HEAD"))[2] == b""


class PausableConnection(asyncio.Transport):
    """A transport that takes everything."""

    def write(self, data: bytes | bytearray | memoryview) -> None:
        pass


class CountingOwner:
    """An owner that counts what comes back."""

    def __init__(self) -> None:
        self.released = 0

    def release(self, connection: UpstreamConnection) -> None:
        self.released += 1

    def forget(self, connection: UpstreamConnection) -> None:
        pass


async def test_response_cut_at_any_byte_reads_the_same() -> None:
    shelf = CountingOwner()
    connection = UpstreamConnection(asyncio.get_running_loop(), shelf, HeadLimits())
    connection.connection_made(PausableConnection({"socket": QUIET}))
    request = Request(Origin("http", "a.test", 80), b"POST", b"/", [], b"", Timeouts())
    for cut in range(1, len(CHUNKED)):
        exchange = connection.start(request, b"", 0.0)
        connection.data_received(CHUNKED[:cut])
        assert shelf.released == cut - 1
        connection.data_received(CHUNKED[cut:])
        assert shelf.released == cut
        assert await exchange.read(100) == b"foohello world"
        assert len(exchange.headers) == 2


async def test_complete_body_is_read_without_suspending(serve: Any, client: HttpClient) -> None:
    upstream = await serve(answer(OK))
    response = await client.send(upstream.request())
    reading = response.read(2)
    with pytest.raises(StopIteration) as stop:
        reading.send(None)
    assert stop.value.value == b"ok"


async def test_sink_gets_each_piece_as_it_arrives(
    serve: Any, client: HttpClient, recorder: Any
) -> None:
    go_on = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\none\r\n")
        await go_on.wait()
        await peer.give(b"3\r\ntwo\r\n0\r\n\r\n")
        await peer.wait_for_end()

    upstream = await serve(script)
    response = await client.send(upstream.request())
    sink = recorder()
    response.stream(sink)
    assert sink.chunks == [b"one"]
    go_on.set()
    await sink.over.wait()
    assert (sink.chunks, sink.ends, sink.errors) == ([b"one", b"two"], 1, [])
    assert client.stats().idle == 1


@pytest.mark.parametrize(
    ("data", "error"),
    [
        (b"", DisconnectedError),
        (b"HTTP/1.1 200 OK\r\ncontent-le", DisconnectedError),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort", DisconnectedError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab", DisconnectedError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n", DisconnectedError),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n", MalformedResponseError),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nab",
            MalformedResponseError,
        ),
        (
            b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
            MalformedResponseError,
        ),
        (b"SSH-2.0-OpenSSH_9\r\n", MalformedResponseError),
        (
            b"HTTP/1.1 101 Switch\r\nupgrade: x\r\nconnection: upgrade\r\n\r\n",
            MalformedResponseError,
        ),
        (b"HTTP/1.1 099 Odd\r\ncontent-length: 0\r\n\r\n", MalformedResponseError),
        (b"HTTP/1.1 200 OK\r\nx: a\r\n b\r\ncontent-length: 0\r\n\r\n", MalformedResponseError),
        (b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000, ResponseHeadTooLargeError),
        (
            b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * 300 + b"content-length: 0\r\n\r\n",
            ResponseHeadTooLargeError,
        ),
        (
            b"HTTP/1.1 200 OK\r\nx: " + b"a" * 70_000 + b"\r\ncontent-length: 1\r\n\r\na",
            ResponseHeadTooLargeError,
        ),
        (b"HTTP/1.1 103 Hints\r\nlink: aaaaaaaaa\r\n\r\n" * 3000, ResponseHeadTooLargeError),
        (
            b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\nt: " + b"a" * 400_000,
            ResponseHeadTooLargeError,
        ),
    ],
)
async def test_broken_answer_is_an_error_and_its_connection_closed(
    serve: Any, client: HttpClient, data: bytes, error: type[EgressError]
) -> None:
    upstream = await serve(answer(data, close=True))
    with pytest.raises(error):
        await fetch(client, upstream)
    assert client.stats().idle == 0


async def test_limits_of_the_head_are_settings(serve: Any, open_client: Any) -> None:
    upstream = await serve(answer(OK))
    async with open_client(head_limits=HeadLimits(bytes_max=10)) as client:
        with pytest.raises(ResponseHeadTooLargeError):
            await fetch(client, upstream)


async def test_sink_hears_how_the_body_broke_off(
    serve: Any, client: HttpClient, recorder: Any
) -> None:
    data = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nshort"
    upstream = await serve(answer(data, close=True))
    response = await client.send(upstream.request())
    sink = recorder()
    response.stream(sink)
    await sink.over.wait()
    assert (sink.chunks, sink.ends) == ([b"short"], 0)
    assert [type(error) for error in sink.errors] == [DisconnectedError]


@pytest.mark.parametrize("bytes_max", [1, 3])
async def test_body_past_the_readers_limit_is_cut_off(
    serve: Any, client: HttpClient, bytes_max: int
) -> None:
    more = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nab\r\n")
        await more.wait()
        await peer.give(b"6\r\ncdefgh\r\n")
        await peer.wait_for_end()

    upstream = await serve(script)
    response = await client.send(upstream.request())
    asyncio.get_running_loop().call_soon(more.set)
    with pytest.raises(ResponseTooLargeError):
        await response.read(bytes_max)
    assert client.stats().idle == 0


async def test_body_announced_past_the_readers_limit_is_not_read_at_all(
    serve: Any, client: HttpClient
) -> None:
    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\ncontent-length: 2147483648\r\n\r\n")
        await peer.wait_for_end()

    upstream = await serve(script)
    response = await client.send(upstream.request())
    with pytest.raises(ResponseTooLargeError):
        await response.read(1 << 20)
    assert client.stats().idle == 0


@pytest.mark.parametrize(
    "surplus", [b"H", b"HTTP/1.1 200 OK\r\ncontent-length: 4\r\n\r\nevil", b"?"]
)
@pytest.mark.parametrize("data", [OK, OK.replace(b"\r\n\r\n", b"\r\nconnection: close\r\n\r\n")])
async def test_bytes_after_a_response_end_its_connection(
    serve: Any, client: HttpClient, data: bytes, surplus: bytes
) -> None:
    upstream = await serve(answer(data + surplus))
    assert (await fetch(client, upstream))[2] == b"ok"
    assert client.stats().idle == 0
    assert (await fetch(client, upstream))[2] == b"ok"


async def test_bytes_that_nobody_asked_for_end_an_idle_connection(
    serve: Any, client: HttpClient
) -> None:
    idle, ended = asyncio.Event(), asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(OK)
        await idle.wait()
        await peer.give(b"HTTP/1.1 408 Slow\r\ncontent-length: 0\r\n\r\n")
        await peer.wait_for_end()
        ended.set()

    upstream = await serve(script)
    assert (await fetch(client, upstream))[2] == b"ok"
    assert client.stats().idle == 1
    idle.set()
    await ended.wait()
    assert client.stats().idle == 0


async def test_cancelled_call_closes_its_connection(serve: Any, client: HttpClient) -> None:
    asked, ended = asyncio.Event(), asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.take()
        asked.set()
        await peer.wait_for_end()
        ended.set()

    upstream = await serve(script)
    calling = asyncio.create_task(client.send(upstream.request()))
    await asked.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await ended.wait()
    assert client.stats().open == 0


async def test_cancelled_reader_closes_its_connection(serve: Any, client: HttpClient) -> None:
    ended = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n")
        await peer.wait_for_end()
        ended.set()

    upstream = await serve(script)
    response = await client.send(upstream.request())
    reading = asyncio.create_task(response.read(9))
    await asyncio.sleep(0)
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading
    await ended.wait()


async def test_sink_that_aborts_hears_nothing_more(
    serve: Any, client: HttpClient, recorder: Any
) -> None:
    ended = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n")
        await peer.give(b"1\r\na\r\n1\r\nb\r\n1\r\nc\r\n")
        await peer.wait_for_end()
        ended.set()

    class Aborter(recorder):
        def on_data(self, data: bytes) -> None:
            self.chunks.append(data)
            response.abort()
            response.abort()

    upstream = await serve(script)
    response = await client.send(upstream.request())
    sink = Aborter()
    response.stream(sink)
    await ended.wait()
    assert (sink.chunks, sink.ends, sink.errors) == ([b"a"], 0, [])


async def test_finished_response_is_freed_without_the_collector(
    serve: Any, client: HttpClient, recorder: Any
) -> None:
    upstream = await serve(answer(OK))

    class Tracked(recorder):
        pass

    gc.collect()
    gc.disable()
    try:
        response = await client.send(upstream.request())
        sink = Tracked()
        response.stream(sink)
        freed = weakref.ref(sink)
        del response, sink
        assert freed() is None
    finally:
        gc.enable()


async def test_thousand_calls_in_turn_share_one_connection(serve: Any, client: HttpClient) -> None:
    upstream = await serve(answer(CHUNKED))
    for _ in range(1000):
        await fetch(client, upstream)
    assert (upstream.connections, client.stats().connects, client.stats().open) == (1, 1, 1)
