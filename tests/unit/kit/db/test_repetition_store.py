"""Repeated work is recognized within its window, on both databases and by two processes."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
import sqlalchemy as sa

from headgate.kit.db import repetition_store
from headgate.kit.db.engine import Database
from headgate.kit.db.repetition_store import REPEATABLE, RepetitionStore, WorkRequest
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from tests.fakes.ledger import SetClock

pytestmark = pytest.mark.anyio
ONE, OTHER = WorkRequest(b"1" * 32), WorkRequest(b"2" * 32)


@pytest.fixture
def database(empty_place: Path | str) -> Generator[Database]:
    database = Database(empty_place)
    with database.transaction() as connection:
        METADATA.create_all(connection)
    yield database
    database.close()


@contextlib.asynccontextmanager
async def opened(
    database: Database, clock: SetClock, *, is_shared: bool = True
) -> AsyncGenerator[RepetitionStore]:
    writer = Writer(database)
    writer.start()
    try:
        yield RepetitionStore(writer, clock, window_seconds=120.0, is_shared=is_shared)
    finally:
        await writer.stop()


async def test_equal_work_has_one_nonce_until_its_window_ends(database: Database) -> None:
    clock = SetClock(1_800_000_000.0)
    async with opened(database, clock) as here, opened(database, clock) as there:
        started = await asyncio.gather(*(each.start(ONE) for each in (here, there) * 10))
        assert sum(not each.is_repeated for each in started) == 1
        assert len({each.nonce for each in started}) == 1
        assert (await there.start(OTHER)).nonce != started[0].nonce
        clock.time += 119
        assert (await there.start(ONE)).is_repeated
        clock.time += 2
        later = await there.start(ONE)
        assert not later.is_repeated
        assert later.nonce != started[0].nonce
        renewed = await here.start(WorkRequest(ONE.id, renew=True))
        assert renewed.nonce != later.nonce
        assert (await here.start(ONE)).nonce == renewed.nonce


async def test_a_process_alone_decides_by_itself_and_the_next_one_knows(
    database: Database,
) -> None:
    clock = SetClock(1_800_000_000.0)
    async with opened(database, clock, is_shared=False) as store:
        clock.time += 121
        first = await store.start(ONE)
        assert (await store.start(ONE)).nonce == first.nonce
        renewed = await store.start(WorkRequest(ONE.id, renew=True))
        assert renewed.nonce != first.nonce
    async with opened(database, clock, is_shared=False) as restarted:
        clock.time += 119
        found = await restarted.start(ONE)
        assert (found.nonce, found.is_repeated) == (renewed.nonce, True)
        clock.time += 2
        assert not (await restarted.start(ONE)).is_repeated


async def test_what_is_over_is_deleted_however_much_that_is(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(repetition_store, "PRUNED_AT_ONCE", 2)
    clock = SetClock(1_800_000_000.0)
    async with opened(database, clock) as store:
        for number in range(5):
            await store.start(WorkRequest(bytes([number]) * 32))
        clock.time += 121
        for _ in range(3):
            await store.start(WorkRequest(OTHER.id, renew=True))
    with database.reading() as connection:
        kept = connection.execute(sa.select(REPEATABLE.c.id)).scalars().all()
    assert kept == [OTHER.id]
