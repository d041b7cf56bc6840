"""Who gets a connection, who waits, what is kept."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from typing import Any

import pytest

from headgate.kit.http.client import HttpClient, Stats
from headgate.kit.http.errors import ConnectError, PoolExhaustedError
from headgate.kit.http.message import Origin, Request, Timeouts
from headgate.kit.http.pool import PoolLimits

pytestmark = pytest.mark.anyio

OK = b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok"


class Gate:
    """A script whose answers wait until the test lets them go."""

    def __init__(self, answer: bytes = OK) -> None:
        self.asked = asyncio.Semaphore(0)
        self.answers = asyncio.Semaphore(0)
        self.order: list[bytes] = []
        self._answer = answer

    async def __call__(self, peer: Any) -> None:
        while True:
            request = await peer.take()
            self.order.append(request[-1:])
            self.asked.release()
            await self.answers.acquire()
            await peer.give(self._answer)


async def call(client: HttpClient, upstream: Any, body: bytes = b"x", **timeouts: float) -> bytes:
    response = await client.send(upstream.request(body, timeouts=Timeouts(**timeouts)))
    return await response.read(100)


def start(client: HttpClient, upstream: Any, body: bytes = b"x") -> asyncio.Task[bytes]:
    return asyncio.create_task(call(client, upstream, body))


async def until(client: HttpClient, **counts: int) -> None:
    """Turn the loop until the client's statistics are these."""
    while any(getattr(client.stats(), name) != count for name, count in counts.items()):  # noqa: ASYNC110
        await asyncio.sleep(0)


async def test_calls_beyond_the_origins_limit_wait_their_turn(serve: Any, open_client: Any) -> None:
    gate = Gate()
    upstream = await serve(gate)
    async with open_client(limits=PoolLimits(connections_per_origin_max=1)) as client:
        calls = [start(client, upstream, body) for body in (b"a", b"b", b"c")]
        await gate.asked.acquire()
        assert client.stats() == Stats(open=1, idle=0, waiting=2, connects=1)
        for _ in calls:
            gate.answers.release()
        assert await asyncio.gather(*calls) == [b"ok"] * 3
        assert gate.order == [b"a", b"b", b"c"]
        assert client.stats() == Stats(open=1, idle=1, waiting=0, connects=1)


async def test_place_of_a_connection_that_closes_goes_to_who_waits(
    serve: Any, open_client: Any
) -> None:
    gate = Gate(OK.replace(b"content", b"connection: close\r\ncontent"))
    upstream = await serve(gate)
    async with open_client(limits=PoolLimits(connections_per_origin_max=1)) as client:
        calls = [start(client, upstream) for _ in range(3)]
        for _ in calls:
            gate.answers.release()
        assert await asyncio.gather(*calls) == [b"ok"] * 3
        await until(client, open=0)
        assert client.stats().connects == 3


async def test_failed_connection_frees_its_place(serve: Any, open_client: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    upstream = await serve(Gate())
    upstream.port = port
    async with open_client(limits=PoolLimits(connections_per_origin_max=1)) as client:
        calls = [start(client, upstream) for _ in range(3)]
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert [type(result) for result in results] == [ConnectError] * 3
        assert client.stats() == Stats(open=0, idle=0, waiting=0, connects=0)


async def test_waiting_counts_into_the_connect_deadline(serve: Any, open_client: Any) -> None:
    gate = Gate()
    upstream = await serve(gate)
    async with open_client(limits=PoolLimits(connections_per_origin_max=1)) as client:
        first = start(client, upstream)
        await gate.asked.acquire()
        with pytest.raises(PoolExhaustedError):
            await call(client, upstream, connect_seconds=0.05)
        assert client.stats().waiting == 0
        gate.answers.release()
        assert await first == b"ok"


async def test_full_queue_refuses_at_once(serve: Any, open_client: Any) -> None:
    gate = Gate()
    upstream = await serve(gate)
    limits = PoolLimits(connections_per_origin_max=1, waiting_max=1)
    async with open_client(limits=limits) as client:
        calls = [start(client, upstream) for _ in range(2)]
        await gate.asked.acquire()
        with pytest.raises(PoolExhaustedError):
            await call(client, upstream)
        for _ in calls:
            gate.answers.release()
        await asyncio.gather(*calls)


@pytest.mark.parametrize("turns", range(6))
async def test_cancelled_waiter_passes_its_connection_on(
    serve: Any, open_client: Any, turns: int
) -> None:
    gate = Gate()
    upstream = await serve(gate)
    async with open_client(limits=PoolLimits(connections_per_origin_max=1)) as client:
        first, second, third = (start(client, upstream) for _ in range(3))
        await gate.asked.acquire()
        gate.answers.release()
        await first
        for _ in range(turns):
            await asyncio.sleep(0)
        second.cancel()
        gate.answers.release()
        gate.answers.release()
        with pytest.raises(asyncio.CancelledError):
            await second
        assert await third == b"ok"
        await until(client, open=1, idle=1, waiting=0)


@pytest.mark.parametrize("turns", range(12))
async def test_cancelled_connect_leaves_nothing_open(
    serve: Any, client: HttpClient, turns: int
) -> None:
    upstream = await serve(Gate())
    calling = start(client, upstream)
    for _ in range(turns):
        await asyncio.sleep(0)
    calling.cancel()
    with pytest.raises(asyncio.CancelledError):
        await calling
    await until(client, open=0, waiting=0)


async def test_unused_connection_of_another_origin_makes_room(serve: Any, open_client: Any) -> None:
    gates = [Gate(), Gate()]
    one, other = [await serve(gate) for gate in gates]
    for gate in gates:
        gate.answers.release()
        gate.answers.release()
    async with open_client(limits=PoolLimits(connections_max=1)) as client:
        for upstream in (one, other, one):
            assert await call(client, upstream) == b"ok"
        assert client.stats() == Stats(open=1, idle=1, waiting=0, connects=3)


async def test_busy_origin_does_not_starve_another(serve: Any, open_client: Any) -> None:
    busy, rare = Gate(), Gate()
    one, other = await serve(busy), await serve(rare)
    rare.answers.release()
    async with open_client(limits=PoolLimits(connections_max=1)) as client:
        first = start(client, one)
        await busy.asked.acquire()
        second = start(client, other)
        await until(client, waiting=1)
        busy.answers.release()
        assert await first == b"ok"
        assert await second == b"ok"


async def test_last_used_connection_is_used_first_and_surplus_closed(
    serve: Any, open_client: Any
) -> None:
    gate = Gate()
    upstream = await serve(gate)
    async with open_client(limits=PoolLimits(idle_max=2)) as client:
        calls = [start(client, upstream) for _ in range(3)]
        for _ in calls:
            await gate.asked.acquire()
        for _ in calls:
            gate.answers.release()
        await asyncio.gather(*calls)
        await until(client, open=2, idle=2)
        for _ in range(5):
            gate.answers.release()
            await call(client, upstream)
        assert client.stats().connects == 3


async def test_unused_connection_is_closed_after_its_time(serve: Any, open_client: Any) -> None:
    gate = Gate()
    upstream = await serve(gate)
    gate.answers.release()
    async with open_client(limits=PoolLimits(keepalive_seconds=0.1)) as client:
        await call(client, upstream)
        assert client.stats().idle == 1
        await asyncio.sleep(0.2)
        assert client.stats() == Stats(open=0, idle=0, waiting=0, connects=1)
        pool = client._pool
        assert pool._origin_pools == {}


async def test_connection_too_old_for_use_is_passed_over(serve: Any, open_client: Any) -> None:
    gate = Gate()
    upstream = await serve(gate)
    async with open_client(limits=PoolLimits(keepalive_seconds=1e-9)) as client:
        for _ in range(2):
            gate.answers.release()
            await call(client, upstream)
            await asyncio.sleep(0.01)
        assert client.stats().connects == 2


async def test_closing_refuses_who_waits(serve: Any, open_client: Any) -> None:
    gate = Gate()
    upstream = await serve(gate)
    async with open_client(limits=PoolLimits(connections_per_origin_max=1)) as client:
        calls = [start(client, upstream) for _ in range(2)]
        await gate.asked.acquire()
        await client.close()
        results = await asyncio.gather(*calls, return_exceptions=True)
        assert all(isinstance(result, Exception) for result in results)
        assert isinstance(results[1], ConnectError)
        await until(client, open=0, waiting=0)


@pytest.mark.parametrize("said", [b"", b"HTTP/1.1 408 Late\r\n\r\n"])
async def test_kept_connection_that_has_ended_gets_no_request(
    open_client: Any, said: bytes
) -> None:
    """Its end has arrived, but the loop has had no turn to read it."""
    loop = asyncio.get_running_loop()

    async def serve_one(listener: socket.socket) -> socket.socket:
        peer, _ = await loop.sock_accept(listener)
        peer.setblocking(False)
        await loop.sock_recv(peer, 1000)
        peer.sendall(OK)
        return peer

    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.setblocking(False)
        origin = Origin("http", "127.0.0.1", listener.getsockname()[1])
        request = Request(origin, b"POST", b"/", [], b"x", Timeouts())
        async with open_client() as client:
            calling = asyncio.create_task(client.send(request))
            first = await serve_one(listener)
            assert await (await calling).read(2) == b"ok"
            assert client.stats().idle == 1
            first.sendall(said)
            first.shutdown(socket.SHUT_WR)
            again = client.send(request)
            serving = asyncio.create_task(serve_one(listener))
            assert await (await again).read(2) == b"ok"
            received = b""
            with contextlib.suppress(ConnectionError):
                received = await loop.sock_recv(first, 1000)
            assert (received, client.stats().connects) == (b"", 2)
            first.close()
            (await serving).close()
