"""Deadlines, uploads and backpressure of whole exchanges."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headgate.kit.http.client import HttpClient
from headgate.kit.http.errors import (
    ConnectTimeout,
    Disconnected,
    EgressError,
    FirstByteTimeout,
    IdleTimeout,
    TotalTimeout,
)
from headgate.kit.http.message import Timeouts

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
OVERRUN_SECONDS = 0.5
MEBIBYTE = 1 << 20


class Recorder:
    """A sink that keeps what it hears. `over` is set by the last word."""

    def __init__(self) -> None:
        self.size = 0
        self.ends = 0
        self.errors: list[Exception] = []
        self.over = asyncio.Event()

    def on_data(self, data: bytes) -> None:
        self.size += len(data)

    def on_end(self) -> None:
        self.ends += 1
        self.over.set()

    def on_failure(self, error: Exception) -> None:
        self.errors.append(error)
        self.over.set()


def silent_after(data: bytes) -> Any:
    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(data)
        await peer.wait_for_end()

    return script


async def pieces(*items: bytes) -> AsyncIterator[bytes]:
    for item in items:
        yield item


async def unchunk(peer: Any) -> bytes:
    body = b""
    while size := int(await peer.reader.readuntil(b"\r\n"), 16):
        body += await peer.reader.readexactly(size)
        await peer.reader.readexactly(2)
    await peer.reader.readexactly(2)
    return body


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "timeouts", "error"),
    [
        (b"", Timeouts(first_byte_seconds=0.1), FirstByteTimeout),
        (b"HTTP/1.1 103 Hints\r\n\r\nHTTP", Timeouts(first_byte_seconds=0.1), FirstByteTimeout),
        (b"", Timeouts(total_seconds=0.1), TotalTimeout),
        (HEAD, Timeouts(idle_seconds=0.1), IdleTimeout),
        (HEAD + b"some", Timeouts(idle_seconds=0.1), IdleTimeout),
        (HEAD + b"some", Timeouts(total_seconds=0.1), TotalTimeout),
    ],
)
async def test_silent_peer_is_left_at_the_deadline(
    serve: Any, client: HttpClient, said: bytes, timeouts: Timeouts, error: type[EgressError]
) -> None:
    upstream = await serve(silent_after(said))
    started_at = time.monotonic()
    with pytest.raises(error):
        await (await client.send(upstream.request(timeouts=timeouts))).read(100)
    assert 0.09 <= time.monotonic() - started_at < 0.1 + OVERRUN_SECONDS
    assert client.stats().idle == 0


async def test_dripping_body_is_bound_by_the_total_deadline_alone(
    serve: Any, client: HttpClient
) -> None:
    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.give(b".")
            await asyncio.sleep(0.05)

    upstream = await serve(script)
    sink = Recorder()
    timeouts = Timeouts(idle_seconds=0.25, total_seconds=0.7)
    (await client.send(upstream.request(timeouts=timeouts))).stream(sink)
    await sink.over.wait()
    assert [type(error) for error in sink.errors] == [TotalTimeout]
    assert sink.size > 5


@pytest.mark.parametrize(
    ("timeouts", "error"),
    [
        (Timeouts(idle_seconds=0.05, total_seconds=0.4), TotalTimeout),
        (Timeouts(idle_seconds=0.3), IdleTimeout),
    ],
)
async def test_idle_deadline_rests_while_the_sink_pauses(
    serve: Any, client: HttpClient, timeouts: Timeouts, error: type[EgressError]
) -> None:
    upstream = await serve(silent_after(HEAD))
    response = await client.send(upstream.request(timeouts=timeouts))
    response.pause()
    sink = Recorder()
    response.stream(sink)
    if error is IdleTimeout:
        asyncio.get_running_loop().call_later(0.2, response.resume)
    started_at = time.monotonic()
    await sink.over.wait()
    assert [type(error) for error in sink.errors] == [error]
    assert time.monotonic() - started_at >= 0.35


async def test_deadlines_are_not_watched_while_nothing_is_under_way(
    serve: Any, client: HttpClient
) -> None:
    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(OK)
        await peer.wait_for_end()

    upstream = await serve(script)
    await (await client.send(upstream.request())).read(2)
    watch = client._deadlines  # pyright: ignore[reportPrivateUsage]
    assert watch.awake
    await asyncio.sleep(0.25)
    assert not watch.awake


async def test_unclaimed_body_is_left_in_the_socket_until_it_is_streamed(
    serve: Any, client: HttpClient
) -> None:
    given = 0

    async def script(peer: Any) -> None:
        nonlocal given
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (64 * MEBIBYTE))
        for _ in range(64):
            await peer.give(bytes(MEBIBYTE))
            given += 1

    upstream = await serve(script)
    response = await client.send(upstream.request())
    await asyncio.sleep(0.3)
    assert given < 32
    sink = Recorder()
    response.stream(sink)
    await sink.over.wait()
    assert (sink.size, sink.ends) == (64 * MEBIBYTE, 1)


async def test_paused_body_stays_with_the_peer_and_resumes_whole(
    serve: Any, client: HttpClient
) -> None:
    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (32 * MEBIBYTE))
        for _ in range(32):
            await peer.give(bytes(MEBIBYTE))
        await peer.wait_for_end()

    upstream = await serve(script)
    response = await client.send(upstream.request())
    sink = Recorder()
    response.pause()
    response.pause()
    response.stream(sink)
    await asyncio.sleep(0.1)
    assert sink.size <= MEBIBYTE
    response.resume()
    response.resume()
    await sink.over.wait()
    assert (sink.size, sink.ends) == (32 * MEBIBYTE, 1)
    assert client.stats().idle == 1


@pytest.mark.parametrize("size", [0, 1, 65536, 65537, 8 * MEBIBYTE])
async def test_body_of_bytes_arrives_whole(serve: Any, client: HttpClient, size: int) -> None:
    body = bytes(range(256)) * (size // 256) + b"x" * (size % 256)

    async def script(peer: Any) -> None:
        for _ in range(2):
            request = await peer.take()
            assert request.endswith(b"\r\n\r\n" + body)
            await peer.give(OK)
        await peer.wait_for_end()

    upstream = await serve(script)
    for _ in range(2):
        await (await client.send(upstream.request(body))).read(2)
    assert client.stats().connects == 1


@pytest.mark.parametrize("content_length", [None, 7])
async def test_iterated_body_arrives_whole_and_its_connection_is_kept(
    serve: Any, client: HttpClient, content_length: int | None
) -> None:
    async def script(peer: Any) -> None:
        head = await peer.take_head()
        if b"chunked" in head:
            assert await unchunk(peer) == b"foo bar"
        else:
            assert await peer.reader.readexactly(7) == b"foo bar"
        await peer.give(OK)
        await peer.wait_for_end()

    upstream = await serve(script)
    body = pieces(b"foo", b"", b" bar")
    request = upstream.request(body, content_length=content_length)
    assert await (await client.send(request)).read(2) == b"ok"
    assert client.stats().idle == 1


@pytest.mark.parametrize("content_length", [6, 8])
async def test_iterated_body_of_another_length_than_announced_is_refused(
    serve: Any, client: HttpClient, content_length: int
) -> None:
    upstream = await serve(silent_after(b""))
    with pytest.raises(ValueError, match="announced"):
        await client.send(upstream.request(pieces(b"foo", b" bar"), content_length=content_length))
    assert client.stats().idle == 0


async def test_fault_of_the_bodys_source_reaches_the_caller(
    serve: Any, client: HttpClient
) -> None:
    async def broken() -> AsyncIterator[bytes]:
        yield b"foo"
        raise RuntimeError("source")

    upstream = await serve(silent_after(b""))
    with pytest.raises(RuntimeError, match="source"):
        await client.send(upstream.request(broken()))
    assert client.stats().idle == 0


async def test_slow_peer_holds_the_bodys_source_back(serve: Any, client: HttpClient) -> None:
    go_on = asyncio.Event()
    taken = 0

    async def source() -> AsyncIterator[bytes]:
        nonlocal taken
        for _ in range(64):
            taken += 1
            yield bytes(MEBIBYTE)

    async def script(peer: Any) -> None:
        await peer.take_head()
        await go_on.wait()
        assert len(await unchunk(peer)) == 64 * MEBIBYTE
        await peer.give(OK)

    upstream = await serve(script)
    calling = asyncio.create_task(client.send(upstream.request(source())))
    await asyncio.sleep(0.3)
    assert taken < 32
    go_on.set()
    assert (await calling).status == 200


REFUSAL = b"HTTP/1.1 413 Too Large\r\ncontent-length: 2\r\n\r\nno"


async def test_refusal_during_an_upload_is_delivered_and_the_upload_stopped(
    serve: Any, client: HttpClient
) -> None:
    closed = asyncio.Event()

    async def endless() -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"x" * 1000
                await asyncio.sleep(0)
        finally:
            closed.set()

    async def script(peer: Any) -> None:
        await peer.take_head()
        await peer.give(REFUSAL)
        await peer.wait_for_end()

    upstream = await serve(script)
    response = await client.send(upstream.request(endless()))
    assert (response.status, await response.read(10)) == (413, b"no")
    await closed.wait()
    assert client.stats().idle == 0


async def test_connection_with_an_unsent_body_is_not_kept(serve: Any, client: HttpClient) -> None:
    async def script(peer: Any) -> None:
        await peer.take_head()
        await peer.give(REFUSAL)
        await peer.reader.readexactly(1000)
        await asyncio.sleep(1)

    upstream = await serve(script)
    response = await client.send(upstream.request(bytes(64 * MEBIBYTE)))
    assert (response.status, await response.read(10)) == (413, b"no")
    assert client.stats().idle == 0


async def test_first_byte_is_awaited_from_the_end_of_the_upload(
    serve: Any, client: HttpClient
) -> None:
    async def slow() -> AsyncIterator[bytes]:
        for _ in range(5):
            await asyncio.sleep(0.1)
            yield b"x"

    async def script(peer: Any) -> None:
        await peer.take_head()
        await unchunk(peer)
        await peer.wait_for_end()

    upstream = await serve(script)
    started_at = time.monotonic()
    with pytest.raises(FirstByteTimeout):
        await client.send(
            upstream.request(slow(), timeouts=Timeouts(first_byte_seconds=0.15))
        )
    assert 0.6 <= time.monotonic() - started_at < 0.65 + OVERRUN_SECONDS


async def test_upload_that_the_peer_stops_taking_times_out(
    serve: Any, client: HttpClient
) -> None:
    released = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.take_head()
        await released.wait()

    upstream = await serve(script)
    request = upstream.request(bytes(64 * MEBIBYTE), timeouts=Timeouts(first_byte_seconds=0.2))
    with pytest.raises(FirstByteTimeout):
        await client.send(request)
    released.set()


async def test_cancelled_upload_closes_its_source(serve: Any, client: HttpClient) -> None:
    started, closed = asyncio.Event(), asyncio.Event()

    async def stuck() -> AsyncIterator[bytes]:
        try:
            yield b"x"
            started.set()
            await asyncio.Event().wait()
        finally:
            closed.set()

    upstream = await serve(silent_after(b""))
    calling = asyncio.create_task(client.send(upstream.request(stuck())))
    await started.wait()
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await closed.wait()


async def test_kept_connection_that_died_says_so(serve: Any, client: HttpClient) -> None:
    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(OK)
        await peer.take()

    upstream = await serve(script)
    await (await client.send(upstream.request())).read(2)
    with pytest.raises(Disconnected) as caught:
        await client.send(upstream.request())
    assert caught.value.reused
    assert caught.value.sent


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 2"])
async def test_new_or_answering_connection_that_died_is_not_called_reused(
    serve: Any, client: HttpClient, said: bytes
) -> None:
    async def script(peer: Any) -> None:
        await peer.take()
        if said:
            await peer.give(OK)
            await peer.take()
            await peer.give(said)

    upstream = await serve(script)
    if said:
        await (await client.send(upstream.request())).read(2)
    with pytest.raises(Disconnected) as caught:
        await client.send(upstream.request())
    assert not caught.value.reused


async def test_request_that_cannot_be_written_safely_opens_nothing(
    serve: Any, client: HttpClient
) -> None:
    upstream = await serve(silent_after(b""))
    with pytest.raises(ValueError, match="line break"):
        await client.send(upstream.request(headers=[(b"x-a", b"1\r\nhost: evil")]))
    assert client.stats().open == 0


async def test_closed_client_breaks_off_what_is_under_way(serve: Any, open_client: Any) -> None:
    asked = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.take()
        asked.set()
        await peer.wait_for_end()

    upstream = await serve(script)
    async with open_client() as client:
        calling = asyncio.create_task(client.send(upstream.request()))
        await asked.wait()
        await client.close()
        with pytest.raises(Disconnected):
            await calling
        with pytest.raises(EgressError, match="closed"):
            await client.send(upstream.request())


async def test_connect_deadline_covers_the_tls_handshake(serve: Any, client: HttpClient) -> None:
    async def script(peer: Any) -> None:
        await peer.wait_for_end()

    upstream = await serve(script)
    upstream.scheme = "https"
    with pytest.raises(ConnectTimeout) as caught:
        await client.send(upstream.request(timeouts=Timeouts(connect_seconds=0.1)))
    assert not caught.value.sent
    with pytest.raises(TotalTimeout):
        await client.send(upstream.request(timeouts=Timeouts(total_seconds=0.1)))
