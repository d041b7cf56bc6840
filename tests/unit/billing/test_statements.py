"""The statements of a call are parsed once for each connection of the writer, on any database."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from headgate.billing.service.ledger import Ledger, fund
from headgate.kit import outbox
from headgate.kit.clock import SystemClock
from headgate.kit.db import migration
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.sqlite import DRIVER
from headgate.kit.db.writer import Writer
from headgate.relay.ports import Hold
from tests.fakes.example_receipt import make_receipt

pytestmark = pytest.mark.anyio

SIZES = (1, 3, 20, 75)
"""How many calls settle together."""
RARE = 150
"""Statements of the platform API that come between: more than a cache of the default size holds."""
HOLD = Hold(
    request_id="",
    organization_id="org_1",
    amount_nano=1_000,
    project_id="proj_1",
    key_id="key_1",
    credential_id="cred_1",
    endpoint="chat.completions",
    method="POST",
    provider="openai",
    model="gpt-5.4-mini",
    price_id="openai/gpt-5.4-mini@2026-01-01",
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def fresh(tmp_path: Path) -> Generator[Database]:
    """Return the database of a new installation.

    The process that creates the tables, with all queries of a first start, also serves.
    """
    database = Database(tmp_path / "headgate.db")
    migration.prepare(database, METADATA)
    with database.transaction() as connection:
        ask_rare(connection)
    yield database
    database.close()


@pytest.fixture
def shared(prepared_url: str) -> Generator[Database]:
    database = Database(prepared_url)
    yield database
    database.close()


class Calls:
    """Settle own-key and managed calls in batches of every size."""

    def __init__(self, writer: Writer) -> None:
        self.writer = writer
        self._ledger = Ledger(writer, SystemClock(), read_wanted=outbox.want_everything)
        self._done = 0

    async def fund(self) -> None:
        await self.writer.call(
            lambda c: fund(c, "org_1", amount_nano=10**12, reference="start", now=1.0)
        )

    async def settle_all_sizes(self) -> None:
        for size in SIZES:
            await self._settle(size)

    async def _settle(self, size: int) -> None:
        first, self._done = self._done, self._done + 2 * size
        ids = [f"req_{number}" for number in range(first, self._done)]
        holds = [msgspec.structs.replace(HOLD, request_id=name) for name in ids[:size]]
        await asyncio.gather(*[self._ledger.hold(hold) for hold in holds])
        receipts = [make_receipt(request_id=name, cost_nano=500) for name in ids]
        await asyncio.gather(
            *[
                self._ledger.record(receipt, hold)
                for receipt, hold in zip(receipts, holds, strict=False)
            ],
            *[self._ledger.record(receipt, None) for receipt in receipts[size:]],
        )


def ask_rare(connection: sa.Connection) -> None:
    """Run rare queries often enough that the driver of PostgreSQL prepares each."""
    for number in range(6 * RARE):
        connection.exec_driver_sql(f"SELECT {number // 6} FROM receipts").first()


@pytest.fixture
async def calls(fresh: Database) -> AsyncGenerator[Calls]:
    writer = Writer(fresh)
    writer.start()
    calls = Calls(writer)
    await calls.fund()
    yield calls
    await writer.stop()


@pytest.fixture
async def shared_calls(shared: Database) -> AsyncGenerator[Calls]:
    writer = Writer(shared)
    writer.start()
    calls = Calls(writer)
    await calls.fund()
    yield calls
    await writer.stop()


async def test_sqlite_parses_no_statement_of_a_call_twice_after_a_first_start(calls: Calls) -> None:
    """Count parsed statements: SQLite calls its authorizer for each table when it parses one."""
    parsed: Counter[str] = Counter()

    def note(action: int, table: str | None, *_names: Any) -> int:
        # A pragma is run by its parsing, so it cannot be kept.
        if action != DRIVER.SQLITE_PRAGMA:
            parsed[table or ""] += 1
        return DRIVER.SQLITE_OK

    def watch(connection: sa.Connection) -> None:
        driver: Any = connection.connection.driver_connection
        driver.set_authorizer(note)

    await calls.writer.call(watch)
    await calls.settle_all_sizes()
    assert parsed["receipts"], "the first time everything is parsed"
    await calls.writer.call(ask_rare)
    parsed.clear()
    await calls.settle_all_sizes()
    assert parsed == Counter()


async def test_postgresql_keeps_the_statements_of_a_call_prepared(shared_calls: Calls) -> None:
    def list_prepared(connection: sa.Connection) -> dict[str, str]:
        query = "SELECT name, statement FROM pg_prepared_statements"
        return {
            name: statement
            for name, statement in connection.exec_driver_sql(query)
            if "INTO receipts" in statement or "holds" in statement or "entries" in statement
        }

    for _ in range(6):
        await shared_calls.settle_all_sizes()
    before = await shared_calls.writer.call(list_prepared)
    assert len(before) >= len(SIZES)
    await shared_calls.writer.call(ask_rare)
    for _ in range(2):
        await shared_calls.settle_all_sizes()
    assert await shared_calls.writer.call(list_prepared) == before
