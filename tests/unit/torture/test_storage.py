"""Every verdict about a backup has a case in which it fails."""

from __future__ import annotations

from pathlib import Path

import pytest
import sqlalchemy as sa

from headgate.billing.service.ledger import fund
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from rigs.torture import storage
from rigs.torture.oracle import opened


@pytest.fixture
def file(tmp_path: Path) -> Path:
    database = Database(tmp_path / "headgate.db")
    with database.transaction() as connection:
        METADATA.create_all(connection)
        fund(connection, "org_1", amount_nano=1_000, reference="start", now=1.0)
    database.close()
    return tmp_path / "headgate.db"


def test_backup_that_lost_an_answer_or_whose_ledger_is_wrong_is_found(file: Path) -> None:
    with opened(file) as read:
        assert storage.judge_backup(read, set()) == ([], 0)
        (lost,), _ = storage.judge_backup(read, {"req_1"})
    assert lost.verdict == "L1"
    database = Database(file)
    with database.transaction() as connection:
        connection.execute(
            sa.text("UPDATE ledger_accounts SET balance_nano = 7 WHERE balance_nano = 1000")
        )
    database.close()
    with opened(file) as read:
        (wrong,), _ = storage.judge_backup(read, set())
    assert wrong.verdict == "L5"
