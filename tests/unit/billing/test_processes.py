from __future__ import annotations

import subprocess
import sys
from collections.abc import Generator
from pathlib import Path

import pytest
import sqlalchemy as sa

from headgate.billing.service.ledger import find_inconsistencies, fund, read_available
from headgate.billing.store import ledger as store
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.metering.store import RECEIPTS

SPENDER = Path(__file__).with_name("spender.py")


@pytest.fixture
def database(empty_place: Path | str) -> Generator[Database]:
    database = Database(empty_place)
    with database.transaction() as connection:
        METADATA.create_all(connection)
        fund(connection, "org_1", amount_nano=1_000, reference="start", now=1.0)
    yield database
    database.close()


def spend(database: Database, name: str, attempts: int) -> subprocess.Popen[str]:
    command = [sys.executable, str(SPENDER), str(database.place), name, str(attempts)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def test_two_processes_spend_exactly_what_the_wallet_has(database: Database) -> None:
    processes = [spend(database, name, 1_500) for name in ("a", "b")]
    granted = [int(process.communicate(timeout=25)[0]) for process in processes]
    assert sum(granted) == 1_000
    assert min(granted) >= 0
    with database.reading() as connection:
        assert read_available(connection, "org_1") == 0
        assert find_inconsistencies(connection) == []


def test_a_killed_process_leaves_no_completed_answer_unbilled(database: Database) -> None:
    with database.transaction() as connection:
        fund(connection, "org_1", amount_nano=10**9, reference="more", now=1.0)
    process = spend(database, "a", 0)
    assert process.stdout is not None
    printed = [process.stdout.readline() for _ in range(100)]
    process.kill()
    printed += process.communicate()[0].splitlines(keepends=True)
    completed = {line.strip() for line in printed if line.endswith("\n")}
    with database.reading() as connection:
        billed = set(connection.execute(sa.select(RECEIPTS.c.request_id)).scalars())
        open_holds = store.list_open_holds(connection, expired_at=None, rows_max=10_000)
        assert completed <= billed
        assert not billed & {hold.request_id for hold in open_holds}
        assert find_inconsistencies(connection) == []
        assert read_available(connection, "org_1") == 10**9 + 1_000 - len(billed) - len(open_holds)
        assert database.dialect.examine(connection)[0] is None
