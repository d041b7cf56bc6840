"""What two processes on one PostgreSQL make of each other's holds; here, two writers."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager

import pytest
import sqlalchemy as sa

from headgate.billing.model.ledger import make_unknown_receipt
from headgate.billing.service.ledger import Ledger, find_inconsistencies, fund, read_available
from headgate.billing.store import ledger as store
from headgate.kit import outbox
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database, StorageUnavailableError
from headgate.kit.db.writer import Writer
from headgate.metering.store import RECEIPTS
from headgate.relay.ports import Hold
from tests.fakes.postgres import Postgres, Wire

pytestmark = pytest.mark.anyio

ORGANIZATIONS = ("org_1", "org_2", "org_3")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def database(prepared_url: str) -> Generator[Database]:
    database = Database(prepared_url)
    with database.transaction() as connection:
        for organization_id in ORGANIZATIONS:
            fund(connection, organization_id, amount_nano=1_000, reference="start", now=1.0)
    yield database
    with database.reading() as connection:
        assert find_inconsistencies(connection) == []
    database.close()


@asynccontextmanager
async def process(url: object, *, lease_seconds: float = 900.0) -> AsyncGenerator[Ledger]:
    database = Database(str(url))
    writer = Writer(database)
    writer.start()
    yield Ledger(
        writer,
        SystemClock(),
        read_wanted=outbox.want_nothing,
        lease_seconds=lease_seconds,
        now=database.read_clock(),
    )
    await writer.stop()
    database.close()


def count_open(database: Database) -> int:
    with database.reading() as connection:
        return store.count_open_holds(connection)


async def test_start_beside_a_process_that_lives_leaves_its_holds_alone(
    database: Database,
) -> None:
    async with process(database.place) as second:
        async with process(database.place) as first:
            await first.hold(Hold("req_1", "org_1", 400))
            assert await second.resolve_abandoned() == 0
            assert count_open(database) == 1
        assert await second.resolve_abandoned() == 1
    assert count_open(database) == 0


async def test_expired_holds_are_resolved_once_by_whoever_comes_first(
    database: Database,
) -> None:
    async with (
        process(database.place, lease_seconds=0.001) as first,
        process(database.place) as second,
    ):
        await asyncio.gather(*[first.hold(Hold(f"req_{n}", "org_1", 1)) for n in range(300)])
        counts = await asyncio.gather(*[each.resolve_expired() for each in (first, second) * 3])
    assert sum(counts) == 300
    assert count_open(database) == 0


async def test_hold_that_another_process_is_closing_is_left_to_it(database: Database) -> None:
    async with process(database.place, lease_seconds=0.001) as ledger:
        await ledger.hold(Hold("req_1", "org_1", 1))
        with database.transaction() as closing:
            found = store.list_open_holds(closing, expired_at=None, rows_max=9, to_close=True)
            assert [hold.request_id for hold in found] == ["req_1"]
            assert await ledger.resolve_expired() == 0
        assert await ledger.resolve_expired() == 1


async def test_calls_of_many_organizations_on_two_processes_are_settled_without_a_repeat(
    database: Database, capsys: pytest.CaptureFixture[str]
) -> None:
    async def pay(ledger: Ledger, request_id: str, organization_id: str) -> None:
        hold = Hold(request_id, organization_id, 7)
        await ledger.hold(hold)
        receipt = make_unknown_receipt(hold, created_at=1.0)
        await ledger.record(receipt, hold)

    async with process(database.place) as first, process(database.place) as second:
        await asyncio.gather(
            *[
                pay(ledger, f"req_{name}_{number}", organization_id)
                for number in range(40)
                for name, ledger in (("a", first), ("b", second))
                for organization_id in (ORGANIZATIONS[number % 3],)
            ]
        )
    with database.reading() as connection:
        left = [read_available(connection, each) for each in ORGANIZATIONS]
    assert sum(left) == 3_000 - 80 * 7
    assert "storage.repeated" not in capsys.readouterr().out


@pytest.mark.parametrize("delivers", [True, False])
async def test_a_call_whose_commit_is_cut_is_held_and_billed_once(
    database: Database, wire: Wire, delivers: bool
) -> None:
    hold = Hold("req_1", "org_1", 400)
    async with process(wire.url(str(database.place))) as ledger:
        wire.cut_at(b"COMMIT", delivers=delivers)
        await ledger.hold(hold)
        wire.cut_at(b"COMMIT", delivers=delivers)
        await ledger.record(make_unknown_receipt(hold, created_at=1.0), hold)
        # And where nobody could say what became of it, it is recorded once more.
        await ledger.record(make_unknown_receipt(hold, created_at=1.0), hold)
    with database.reading() as connection:
        assert read_available(connection, "org_1") == 600


async def call_on(ledger: Ledger, name: str, ended: asyncio.Event) -> AsyncGenerator[str]:
    """Call one after the other, as the pipeline does; return the ids of those that completed."""
    for number in itertools.count():
        if ended.is_set():
            return
        hold = Hold(f"req_{name}_{number}", ORGANIZATIONS[number % 3], 2)
        with contextlib.suppress(StorageUnavailableError):
            ledger.check()
            await ledger.hold(hold)
            receipt = make_unknown_receipt(hold, created_at=1.0)
            try:
                await ledger.record(receipt, hold)
            except StorageUnavailableError:
                ledger.defer(receipt, hold)
                raise
            yield hold.request_id
        await asyncio.sleep(0.005)


@pytest.mark.parametrize("restarts", [3])
async def test_no_call_is_lost_or_billed_twice_over_restarts_of_the_server(
    database: Database, postgres: Postgres, restarts: int
) -> None:
    """D4: the server is ended as by a crash and started again, while two processes settle calls."""
    ended = asyncio.Event()
    progress = asyncio.Semaphore(0)
    completed: list[str] = []

    async def note_completed(ledger: Ledger, name: str) -> None:
        async for request_id in call_on(ledger, name, ended):
            completed.append(request_id)
            progress.release()

    async def keep_well(ledger: Ledger) -> None:
        while not ended.is_set() or ledger.deferred:
            with contextlib.suppress(StorageUnavailableError, TimeoutError):
                await ledger.recover()
                await asyncio.wait_for(ended.wait(), 0.05)

    async def restart() -> None:
        for _ in range(restarts):
            await asyncio.to_thread(postgres.stop)
            await asyncio.sleep(0.1)
            postgres.start()
            async with asyncio.timeout(10):
                for _ in range(50):
                    await progress.acquire()
        ended.set()

    with database.transaction() as connection:
        for organization_id in ORGANIZATIONS:
            fund(connection, organization_id, amount_nano=10**9, reference="more", now=1.0)
    async with process(database.place) as first, process(database.place) as second:
        callers = [
            note_completed(ledger, f"{name}{number}")
            for name, ledger in (("a", first), ("b", second))
            for number in range(5)
        ]
        await asyncio.gather(restart(), keep_well(first), keep_well(second), *callers)
    with database.reading() as connection:
        billed = set(connection.execute(sa.select(RECEIPTS.c.request_id)).scalars())
        left = sum(read_available(connection, each) for each in ORGANIZATIONS)
    assert set(completed) <= billed
    assert len(completed) == len(set(completed))
    assert left == 3 * (10**9 + 1_000) - 2 * (len(billed) + count_open(database))
    # Nothing is held for a call that was refused: every commit that was cut was looked up.
    assert count_open(database) == 0
