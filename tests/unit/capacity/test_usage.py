"""Counts that survive restarts, and that processes exchange through their database."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from headgate.capacity.jobs import UsageSync
from headgate.capacity.service import Windows
from headgate.capacity.store.usage import WINDOWS
from headgate.kit.db.engine import Database, StorageUnavailableError
from headgate.kit.db.schema import METADATA, REVISIONS
from headgate.kit.db.writer import Writer
from headgate.relay.capacity_limits import CapacityLimit
from tests.unit.capacity.counting import Counting, make_limited

pytestmark = pytest.mark.anyio
LIFETIME = CapacityLimit("lifetime", requests=3)
MINUTE = CapacityLimit("minute", requests=3)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def place(empty_place: Path | str) -> Path | str:
    database = Database(empty_place)
    with database.transaction() as connection:
        METADATA.create_all(connection, tables=[REVISIONS, WINDOWS])
    database.close()
    return empty_place


class Process:
    """Count in one process, and exchange the counts."""

    def __init__(self, place: Path | str, *, is_shared: bool) -> None:
        self.database = Database(place)
        self.writer = Writer(self.database)
        self.counting = Counting(Windows(keeps_minutes=is_shared))
        self.sync = UsageSync(
            self.counting.limiter,
            self.counting.windows,
            database=self.database,
            writer=self.writer,
            clock=self.counting.clock,
            is_shared=is_shared,
            windows_max=1_000,
        )

    async def admits(self, limit: CapacityLimit) -> bool:
        """Return whether a call with this limit passes."""
        state = make_limited(key=[limit])
        try:
            await self.counting.limiter.admit(state)
        except Exception:  # noqa: BLE001  every refusal is a refusal here
            return False
        return True

    async def count(self, limit: CapacityLimit) -> int:
        """Return how many calls with this limit pass."""
        passed = 0
        while await self.admits(limit):
            passed += 1
        return passed


@contextlib.asynccontextmanager
async def running(place: Path | str, *, is_shared: bool = False) -> AsyncGenerator[Process]:
    process = Process(place, is_shared=is_shared)
    process.writer.start()
    process.sync.load()
    yield process
    await process.writer.stop()
    process.database.close()


async def test_counts_of_a_lifetime_survive_a_restart(place: Path | str) -> None:
    async with running(place) as process:
        assert await process.admits(LIFETIME)
        await process.sync.run()
        assert await process.admits(LIFETIME)
        await process.sync.run()
    async with running(place) as process:
        assert await process.count(LIFETIME) == 1
        assert not await process.admits(LIFETIME)


async def test_minutes_are_kept_only_for_other_processes(place: Path | str) -> None:
    async with running(place) as process:
        assert await process.count(MINUTE) == 3
        await process.sync.run()
    async with running(place, is_shared=True) as process:
        assert await process.count(MINUTE) == 3
        await process.sync.run()
    async with running(place, is_shared=True) as process:
        assert await process.count(MINUTE) == 0


async def test_processes_see_what_others_counted_at_the_next_exchange(place: Path | str) -> None:
    if isinstance(place, Path):
        pytest.skip("SQLite belongs to one process")
    async with running(place, is_shared=True) as first, running(place, is_shared=True) as second:
        assert await first.admits(LIFETIME)
        assert await first.admits(LIFETIME)
        await first.sync.run()
        await second.sync.run()
        assert await second.count(LIFETIME) == 1
        # Until the next exchange, the first one does not know of that.
        assert await first.count(LIFETIME) == 1
        await first.sync.run()
        await second.sync.run()
        usage = second.counting.limiter.find("key", "key_1", [LIFETIME], "lifetime")
        assert usage is not None
        assert usage.requests_used == 4


async def test_differences_that_cannot_be_stored_are_kept(place: Path | str) -> None:
    async with running(place) as process:
        assert await process.admits(LIFETIME)
        await process.writer.stop()
        with pytest.raises(StorageUnavailableError):
            await process.sync.run()
        process.writer.start()
        await process.sync.run()
    async with running(place) as process:
        assert await process.count(LIFETIME) == 2


async def test_usage_of_a_call_is_stored_and_ended_windows_are_deleted(place: Path | str) -> None:
    limit = CapacityLimit("hour", tokens=1_000)
    async with running(place) as process:
        state = make_limited(key=[limit])
        await process.counting.limiter.admit(state)
        await process.sync.run()
        process.counting.settle(state, 400)
        await process.sync.run()
    async with running(place) as process:
        usage = process.counting.limiter.find("key", "key_1", [limit], "hour")
        assert usage is not None
        assert (usage.requests_used, usage.tokens_used) == (1, 400)
        process.counting.clock.seconds += 3 * 3600
        await process.sync.prune()
    async with running(place) as process:
        assert len(process.counting.windows) == 0
