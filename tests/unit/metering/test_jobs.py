from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncGenerator, Generator, Sequence
from pathlib import Path

import psutil
import pytest
import sqlalchemy as sa

from headgate.billing.service import ledger as billing
from headgate.billing.service.ledger import Ledger
from headgate.billing.store.ledger import ENTRIES, HOLDS
from headgate.kit import outbox
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from headgate.kit.ids import first_id
from headgate.metering import store as metering
from headgate.metering.jobs import STEP_ROWS, Progress, Pruner, RollUps
from headgate.metering.store import RECEIPTS
from headgate.relay.ports import Hold, Receipt
from tests.fakes.example_receipt import make_receipt

pytestmark = pytest.mark.anyio

OLD, BEFORE, NEW = 1_700_000_000.0, 1_710_000_000.0, 1_720_000_000.0
ROWS = 20_000
TICK_SECONDS = 1 / 128
MEBIBYTE = 2**20


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    database = Database(tmp_path / "test.db")
    with database.transaction() as connection:
        METADATA.create_all(connection)
    yield database
    database.close()


@pytest.fixture
async def writer(database: Database) -> AsyncGenerator[Writer]:
    writer = Writer(database)
    writer.start()
    yield writer
    await writer.stop()


def make_old(count: int, *, at: float = OLD, first: int = 0) -> list[Receipt]:
    """Make receipts a second apart."""
    return [
        make_receipt(
            request_id=f"{first_id('req', at + number)}{number:020x}", created_at=at + number
        )
        for number in range(first, first + count)
    ]


def store(database: Database, receipts: Sequence[Receipt]) -> None:
    with database.transaction() as connection:
        assert metering.insert(connection, receipts) == len(receipts)
        connection.execute(sa.update(RECEIPTS).values(rolled_up=1))


def insert_all(connection: sa.Connection, receipts: Sequence[Receipt]) -> Sequence[None]:
    metering.insert(connection, receipts)
    return [None] * len(receipts)


def count(database: Database) -> int:
    with database.reading() as connection:
        return metering.count(connection)


def read_all(database: Database, table: sa.Table) -> list[sa.Row[tuple[object, ...]]]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(table)))


async def test_only_what_is_old_goes_in_bounded_memory(database: Database, writer: Writer) -> None:
    store(database, make_old(ROWS))
    store(database, make_old(500, at=NEW))
    process = psutil.Process()
    resident, seen = process.memory_info().rss, list[int]()

    def watch(_: Progress) -> None:
        seen.append(process.memory_info().rss)

    progress = await Pruner(writer).run(BEFORE, watch)
    assert progress.rows == ROWS
    assert count(database) == 500
    assert max(seen) - resident <= 50 * MEBIBYTE
    assert (await Pruner(writer).run(BEFORE)).rows == 0


async def test_money_stays_when_its_receipt_goes(database: Database, writer: Writer) -> None:
    ledger = Ledger(writer, SystemClock(), read_wanted=outbox.want_nothing)
    await ledger.fund("org_1", 10**9, reference="test")
    [settled, open_one] = make_old(2)
    holds = [
        Hold(receipt.request_id, "org_1", amount_nano=100_000) for receipt in (settled, open_one)
    ]
    for hold in holds:
        await ledger.hold(hold)
    await ledger.record(settled, holds[0])
    entries, stored = read_all(database, ENTRIES), read_all(database, HOLDS)
    await RollUps(writer).run()
    assert (await Pruner(writer).run(BEFORE)).rows == 1
    assert (read_all(database, ENTRIES), read_all(database, HOLDS)) == (entries, stored)
    # The same request cannot be billed again, nor can the books be made to disagree.
    with pytest.raises(Exception, match="No open hold"):
        await ledger.record(settled, holds[0])
    with database.reading() as connection:
        assert billing.find_inconsistencies(connection) == []
        assert billing.count_open_holds(connection) == 1


async def test_calls_are_stored_between_the_slices(database: Database, writer: Writer) -> None:
    store(database, make_old(20 * STEP_ROWS))
    queue = writer.create_queue(insert_all, durable=False)
    done: list[int] = []
    slices: list[int] = []

    async def call() -> None:
        for receipt in make_old(10_000, at=NEW):
            await queue.put(receipt)
            done.append(1)

    task = asyncio.create_task(call())
    await Pruner(writer, slice_seconds=0.0).run(BEFORE, lambda _: slices.append(len(done)))
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
    assert len(slices) == 20
    waits = [after - before for before, after in itertools.pairwise(slices)]
    assert min(waits) >= 1, "a call got its turn between any two slices"


async def test_slice_ends_in_its_time(database: Database, writer: Writer) -> None:
    store(database, make_old(10 * STEP_ROWS))
    # By this clock each look at it is a tick later: a slice of two ticks has time for two steps.
    clock = itertools.count(step=TICK_SECONDS)
    slices: list[int] = []
    pruner = Pruner(writer, slice_seconds=2 * TICK_SECONDS, read_seconds=lambda: next(clock))
    progress = await pruner.run(BEFORE, lambda progress: slices.append(progress.rows))
    assert slices == [rows * STEP_ROWS for rows in (2, 4, 6, 8, 10)]
    assert progress.longest_seconds == 3 * TICK_SECONDS


async def test_freed_room_is_taken_by_the_next_receipts(database: Database, writer: Writer) -> None:
    def summarize() -> int:
        with database.reading() as connection:
            return connection.exec_driver_sql("PRAGMA page_count").scalar_one()

    store(database, make_old(ROWS // 2))
    before = summarize()
    for round_number in range(1, 3):
        first = round_number * ROWS
        await Pruner(writer).run(BEFORE)
        store(database, make_old(ROWS // 2, first=first))
    assert summarize() <= 1.1 * before
