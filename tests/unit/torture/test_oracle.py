from __future__ import annotations

import sqlite3
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import Any

import msgspec
import pytest

from headgate.billing.model.ledger import make_unknown_receipt
from headgate.billing.service.ledger import Ledger, fund
from headgate.kit import outbox
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from headgate.relay.ports import Hold, Receipt
from rigs.torture.oracle import Answer, check_after_crash, judge_file

pytestmark = pytest.mark.anyio
HOLD = Hold("req_1", "org_1", 400)
ANSWERS = [Answer("req_1", "answer_1")]
SALES = {"answer_1": 150}


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def path(tmp_path: Path) -> Path:
    """The books of one whole answer."""
    database = Database(tmp_path / "test.db")
    with database.transaction() as connection:
        METADATA.create_all(connection)
        fund(connection, "org_1", amount_nano=1_000, reference="start", now=1.0)
    writer = Writer(database)
    writer.start()
    ledger = Ledger(writer, SystemClock(), read_wanted=outbox.want_everything)
    await ledger.hold(HOLD)
    receipt = make_unknown_receipt(HOLD, created_at=1.0)
    await ledger.record(
        _replace(receipt, outcome="completed", answer_id="answer_1", cost_nano=150), HOLD
    )
    await writer.stop()
    database.close()
    return tmp_path / "test.db"


@pytest.fixture
def server_database(path: Path) -> Generator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None)) as connection:
        yield connection


def verdicts(path: Path) -> set[str]:
    return {finding.verdict for finding in judge_file(path, ANSWERS, SALES)}


async def test_correct_ledger_has_no_findings(path: Path) -> None:
    assert judge_file(path, ANSWERS, SALES) == []
    assert check_after_crash(path) == []


@pytest.mark.parametrize(
    ("damage", "found"),
    [
        ("DELETE FROM receipts", {"L1", "L2", "L8"}),
        ("UPDATE receipts SET outcome = 'unknown'", {"L1"}),
        ("UPDATE receipts SET cost_nano = 151", {"L1", "L2"}),
        ("UPDATE receipts SET answer_id = 'answer_2'", {"L1", "L0"}),
        ("UPDATE holds SET amount_nano = 100", {"L3"}),
        ("UPDATE holds SET state = 'held'", {"L5", "L6"}),
        ("UPDATE ledger_accounts SET balance_nano = 7 WHERE kind = 'revenue'", {"L5"}),
        ("DELETE FROM outbox", {"L8"}),
    ],
)
async def test_each_kind_of_error_is_found(
    path: Path, server_database: sqlite3.Connection, damage: str, found: set[str]
) -> None:
    server_database.execute(damage)
    assert verdicts(path) == found


async def test_answer_billed_twice_is_found(
    path: Path, server_database: sqlite3.Connection
) -> None:
    columns = [row[1] for row in server_database.execute("PRAGMA table_info(receipts)")]
    chosen = ", ".join("'req_2'" if name == "request_id" else name for name in columns)
    server_database.execute(f"INSERT INTO receipts SELECT {chosen} FROM receipts")
    assert "L2" in verdicts(path)


async def test_entries_that_do_not_sum_to_zero_are_found(
    path: Path, server_database: sqlite3.Connection
) -> None:
    server_database.execute(
        "INSERT INTO entries (transaction_id, account_id, amount_nano, request_id, created_at) "
        "VALUES ('stray', 'org_1:wallet', 5, '', 0)"
    )
    assert verdicts(path) == {"L4", "L5"}


def _replace(receipt: Receipt, **changes: Any) -> Receipt:
    return msgspec.structs.replace(receipt, **changes)
