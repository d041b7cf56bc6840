"""No call outlives its deadlines."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any

import pytest

from headgate.kit.http.client import HttpClient
from headgate.kit.http.errors import (
    ConnectTimeoutError,
    EgressError,
    FirstByteTimeoutError,
    IdleTimeoutError,
    TotalTimeoutError,
)
from headgate.kit.http.message import Timeouts

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"
OVERRUN_SECONDS = 0.5
MEBIBYTE = 1 << 20


async def unchunk(peer: Any) -> bytes:
    chunks: list[bytes] = []
    while size := int(await peer.reader.readuntil(b"\r\n"), 16):
        chunks.append(await peer.reader.readexactly(size))
        await peer.reader.readexactly(2)
    await peer.reader.readexactly(2)
    return b"".join(chunks)


def silent_after(data: bytes) -> Any:
    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(data)
        await peer.wait_for_end()

    return script


HEAD = b"HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\n"


@pytest.mark.parametrize(
    ("said", "timeouts", "error"),
    [
        (b"", Timeouts(first_byte_seconds=0.1), FirstByteTimeoutError),
        (
            b"HTTP/1.1 103 Hints\r\n\r\nHTTP",
            Timeouts(first_byte_seconds=0.1),
            FirstByteTimeoutError,
        ),
        (b"", Timeouts(total_seconds=0.1), TotalTimeoutError),
        (HEAD, Timeouts(idle_seconds=0.1), IdleTimeoutError),
        (HEAD + b"some", Timeouts(idle_seconds=0.1), IdleTimeoutError),
        (HEAD + b"some", Timeouts(total_seconds=0.1), TotalTimeoutError),
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
    serve: Any, client: HttpClient, recorder: Any
) -> None:
    async def script(peer: Any) -> None:
        await peer.take()
        await peer.give(b"HTTP/1.1 200 OK\r\n\r\n")
        while True:
            await peer.give(b".")
            await asyncio.sleep(0.05)

    upstream = await serve(script)
    sink = recorder()
    timeouts = Timeouts(idle_seconds=0.25, total_seconds=0.7)
    (await client.send(upstream.request(timeouts=timeouts))).stream(sink)
    await sink.over.wait()
    assert [type(error) for error in sink.errors] == [TotalTimeoutError]
    assert sink.size > 5


@pytest.mark.parametrize(
    ("timeouts", "error"),
    [
        (Timeouts(idle_seconds=0.05, total_seconds=0.4), TotalTimeoutError),
        (Timeouts(idle_seconds=0.3), IdleTimeoutError),
    ],
)
async def test_idle_deadline_rests_while_the_sink_pauses(
    serve: Any, client: HttpClient, recorder: Any, timeouts: Timeouts, error: type[EgressError]
) -> None:
    upstream = await serve(silent_after(HEAD))
    response = await client.send(upstream.request(timeouts=timeouts))
    response.pause()
    sink = recorder()
    response.stream(sink)
    if error is IdleTimeoutError:
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
    with pytest.raises(FirstByteTimeoutError):
        await client.send(upstream.request(slow(), timeouts=Timeouts(first_byte_seconds=0.15)))
    assert 0.6 <= time.monotonic() - started_at < 0.65 + OVERRUN_SECONDS


async def test_upload_that_the_peer_stops_taking_times_out(serve: Any, client: HttpClient) -> None:
    released = asyncio.Event()

    async def script(peer: Any) -> None:
        await peer.take_head()
        await released.wait()

    upstream = await serve(script)
    request = upstream.request(bytes(32 * MEBIBYTE), timeouts=Timeouts(first_byte_seconds=0.2))
    with pytest.raises(FirstByteTimeoutError):
        await client.send(request)
    released.set()


async def test_connect_deadline_covers_the_tls_handshake(serve: Any, client: HttpClient) -> None:
    async def script(peer: Any) -> None:
        await peer.wait_for_end()

    upstream = await serve(script)
    upstream.scheme = "https"
    with pytest.raises(ConnectTimeoutError) as caught:
        await client.send(upstream.request(timeouts=Timeouts(connect_seconds=0.1)))
    assert not caught.value.sent
    with pytest.raises(TotalTimeoutError) as late:
        await client.send(upstream.request(timeouts=Timeouts(total_seconds=0.1)))
    assert not late.value.sent


async def test_stalled_body_of_a_refused_upload_times_out(serve: Any, client: HttpClient) -> None:
    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield b"x"
            await asyncio.sleep(0.01)

    async def script(peer: Any) -> None:
        await peer.take_head()
        await peer.give(HEAD.replace(b"200", b"413"))
        await peer.wait_for_end()

    upstream = await serve(script)
    request = upstream.request(endless(), timeouts=Timeouts(idle_seconds=0.1))
    with pytest.raises(IdleTimeoutError):
        await (await client.send(request)).read(100)
