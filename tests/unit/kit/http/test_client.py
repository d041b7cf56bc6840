"""Uploads, backpressure and ends of whole exchanges."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headgate.kit.http.client import HttpClient
from headgate.kit.http.errors import (
    DisconnectedError,
    EgressError,
)
from headgate.kit.http.message import Client

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
OVERRUN_SECONDS = 0.5
MEBIBYTE = 1 << 20


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
    chunks: list[bytes] = []
    while size := int(await peer.reader.readuntil(b"\r\n"), 16):
        chunks.append(await peer.reader.readexactly(size))
        await peer.reader.readexactly(2)
    await peer.reader.readexactly(2)
    return b"".join(chunks)


async def test_unclaimed_body_is_left_in_the_socket_until_it_is_streamed(
    serve: Any, client: HttpClient, recorder: Any
) -> None:
    given = 0

    async def script(peer: Any) -> None:
        nonlocal given
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (32 * MEBIBYTE))
        for _ in range(32):
            await peer.give(bytes(MEBIBYTE))
            given += 1
        await peer.wait_for_end()

    upstream = await serve(script)
    response = await client.send(upstream.request())
    await asyncio.sleep(0.3)
    assert given < 24
    sink = recorder()
    response.stream(sink)
    await sink.over.wait()
    assert (sink.size, sink.ends) == (32 * MEBIBYTE, 1)


async def test_paused_body_stays_with_the_peer_and_resumes_whole(
    serve: Any, client: HttpClient, recorder: Any
) -> None:
    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % (32 * MEBIBYTE))
        for _ in range(32):
            await peer.give(bytes(MEBIBYTE))
        await peer.wait_for_end()

    upstream = await serve(script)
    response = await client.send(upstream.request())
    sink = recorder()
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


async def test_fault_of_the_bodys_source_reaches_the_caller(serve: Any, client: HttpClient) -> None:
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
        for _ in range(32):
            taken += 1
            yield bytes(MEBIBYTE)

    async def script(peer: Any) -> None:
        await peer.take_head()
        await go_on.wait()
        assert len(await unchunk(peer)) == 32 * MEBIBYTE
        await peer.give(OK)

    upstream = await serve(script)
    calling = asyncio.create_task(client.send(upstream.request(source())))
    await asyncio.sleep(0.3)
    assert taken < 24
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
    response = await client.send(upstream.request(bytes(32 * MEBIBYTE)))
    assert (response.status, await response.read(10)) == (413, b"no")
    assert client.stats().idle == 0


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


async def test_dead_kept_connection_is_reported_as_reused(serve: Any, client: HttpClient) -> None:
    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(OK)
        await peer.take()

    upstream = await serve(script)
    await (await client.send(upstream.request())).read(2)
    with pytest.raises(DisconnectedError) as caught:
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
    with pytest.raises(DisconnectedError) as caught:
        await client.send(upstream.request())
    assert not caught.value.reused


async def test_request_that_cannot_be_written_safely_opens_nothing(
    serve: Any, client: HttpClient
) -> None:
    upstream = await serve(silent_after(b""))
    with pytest.raises(ValueError, match="line break"):
        await client.send(upstream.request(headers=[(b"x-a", b"1\r\nhost: evil")]))
    assert client.stats().open == 0


async def test_closing_the_client_aborts_exchanges(serve: Any, open_client: Any) -> None:
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
        with pytest.raises(DisconnectedError):
            await calling
        with pytest.raises(EgressError, match="closed"):
            await client.send(upstream.request())


async def test_aborted_reader_gets_an_error_and_no_part(serve: Any, client: HttpClient) -> None:
    upstream = await serve(silent_after(b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\npart"))
    kept: Client = client
    response = await kept.send(upstream.request())
    reading = asyncio.create_task(response.read(9))
    await asyncio.sleep(0)
    response.abort()
    for attempt in (reading, response.read(9)):
        with pytest.raises(DisconnectedError):
            await attempt
