"""`headgate receipts list|show` and `headgate prices recompute`, on a database of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa

from headgate.accounts.service import AccountService
from headgate.audit.model import SYSTEM
from headgate.audit.service import AuditLog
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.ids import IdGenerator
from headgate.llm.usage import Usage
from headgate.metering import store as metering
from headgate.metering.store import RECEIPTS
from headgate.relay.ports import Receipt
from tests.fakes.commands import run, run_json
from tests.fakes.ledger import NOVEMBER
from tests.fakes.priced_receipts import make_priced


class DataDirectory:
    """Hold a data directory with one organization, and put receipts into it."""

    def __init__(self, database: Database, organization_id: str) -> None:
        self.database = database
        self.organization_id = organization_id

    def store(self, *receipts: Receipt) -> None:
        with self.database.transaction() as connection:
            metering.insert(connection, receipts)

    def make(self, request_id: str, *usage: Usage, **changes: Any) -> Receipt:
        return make_priced(
            *usage, request_id=request_id, organization_id=self.organization_id, **changes
        )


@pytest.fixture
def directory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[DataDirectory]:
    for name in [name for name in os.environ if name.startswith(("HEADGATE_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("HEADGATE_DATA", str(path))
    monkeypatch.setenv("COLUMNS", "200")
    database = Database(path / "headgate.db")
    METADATA.create_all(database.engine)
    accounts = AccountService(SystemClock(), IdGenerator(), AuditLog(SystemClock()))
    with database.transaction() as connection:
        organization = accounts.create_organization(connection, "Acme", by=SYSTEM)
    yield DataDirectory(database, organization.id)
    database.close()


def list_ids(*words: str) -> list[str]:
    return [each["request_id"] for each in run_json("receipts", "list", *words)]


def test_list_shows_receipts_newest_first_with_their_sum(directory: DataDirectory) -> None:
    directory.store(
        directory.make("req_1"),
        directory.make("req_2", created_at=NOVEMBER + 1, managed=True, status=502),
    )
    shown = run("receipts", "list")
    assert shown.exit_code == 0, shown.output
    assert shown.stdout.index("req_2") < shown.stdout.index("req_1")
    for word in ("gpt-5.4-mini", "1,001", "0.000872475", "own key", "wallet"):
        assert word in shown.stdout
    assert "2 receipts, $0.00174495 at list price, $0.000872475 of it paid by the" in shown.stdout
    assert list_ids() == ["req_2", "req_1"]


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["--managed"], ["req_2"]),
        (["--own"], ["req_1"]),
        (["--status", "502"], ["req_2"]),
        (["--outcome", "broken"], ["req_2"]),
        (["--model", "m"], ["req_2"]),
        (["--key", "k"], ["req_2"]),
        (["--project", "p"], ["req_2"]),
        (["--provider", "acme"], ["req_2"]),
        (["--endpoint", "embeddings"], ["req_2"]),
        (["--metadata", "team:a"], ["req_2"]),
        (["--cost-min", "1"], ["req_2"]),
        (["--cost-max", "0.9"], ["req_1"]),
        (["--since", "2026-11-18T11:06:41Z"], ["req_2"]),
        (["--until", "2026-11-18T11:06:41Z"], ["req_1"]),
        (["--limit", "1"], ["req_2"]),
    ],
    ids=lambda value: value[0],
)
def test_list_is_filtered(directory: DataDirectory, words: list[str], found: list[str]) -> None:
    marked = {
        "created_at": NOVEMBER + 1,
        "managed": True,
        "status": 502,
        "outcome": "broken",
        "model_requested": "m",
        "key_id": "k",
        "project_id": "p",
        "provider": "acme",
        "endpoint": "embeddings",
        "metadata": '{"team":"a"}',
        "cost_nano": 10**9,
    }
    directory.store(directory.make("req_1"), directory.make("req_2", **marked))
    assert list_ids(*words) == found


def test_list_reads_as_many_pages_as_it_needs(directory: DataDirectory) -> None:
    directory.store(*(directory.make(f"req_{number:04}") for number in range(1_203)))
    assert len(list_ids("--limit", "1100")) == 1_100
    assert len(list_ids("--limit", "2000")) == 1_203


@pytest.mark.parametrize(
    "words", [["--metadata", "team"], ["--cost-min", "x"], ["--since", "tomorrow"]]
)
def test_option_that_cannot_be_read_is_refused(directory: DataDirectory, words: list[str]) -> None:
    refused = run("receipts", "list", *words)
    assert (refused.exit_code, "is not a" in refused.stderr) == (1, True)


def test_receipt_is_shown_line_by_line(directory: DataDirectory) -> None:
    directory.store(
        directory.make(
            "req_1", correlation_id="order-7", metadata='{"team":"search"}', streamed=True
        )
    )
    shown = run("receipts", "show", "order-7")
    assert shown.exit_code == 0, shown.output
    for words in (
        "req_1",
        "team=search",
        "POST chat.completions (stream)",
        "cached_input",
        "4.50 per million tokens",
        "0.000024975",
        "0.000872475",
        "Recomputed from the recorded usage: the cost is the same.",
        "Nothing was held for the call.",
    ):
        assert words in shown.stdout, words
    assert run_json("receipts", "show", "req_1")["line_items"][1]["amount"] == "0.000024975"
    missing = run("receipts", "show", "req_none")
    assert (missing.exit_code, "There is no receipt" in missing.stderr) == (1, True)


def test_recomputation_proves_that_nothing_changed(directory: DataDirectory) -> None:
    directory.store(*(directory.make(f"req_{number}") for number in range(3)))
    proved = run("prices", "recompute")
    assert (proved.exit_code, proved.stdout) == (
        0,
        "3 receipts, $0.002617425 (3 by usage): all cost the same.\n",
    )
    assert run_json("prices", "recompute", "--organization", "Acme", "--since", "2026-11-18") == {
        "differences": [],
        "totals": {
            "receipts": 3,
            "differences": 0,
            "cost_nano": 2_617_425,
            "by_basis": {"usage": 3},
        },
    }


def test_recomputation_fails_with_every_tampered_receipt(directory: DataDirectory) -> None:
    directory.store(*(directory.make(f"req_{number}") for number in range(3)))
    with directory.database.transaction() as connection:
        for request_id, values in (
            ("req_0", {"cost_nano": 1}),
            ("req_2", {"price_id": "openai/gpt-5.4-mini@1999-01-01"}),
        ):
            is_it = RECEIPTS.c.request_id == request_id
            connection.execute(sa.update(RECEIPTS).where(is_it).values(values))
    found = run("prices", "recompute")
    assert found.exit_code == 1
    assert "req_0: the receipt says $0.000000001" in found.stdout
    assert "its usage gives $0.000872475" in found.stdout
    assert "req_2: " in found.stdout
    assert "3 receipts, $0.001744951 (3 by usage): 2 differ." in found.stdout
    as_json = run("prices", "recompute", "--json")
    assert as_json.exit_code == 1
    listed = json.loads(as_json.stdout)
    assert [each["request_id"] for each in listed["differences"]] == ["req_0", "req_2"]
    assert listed["totals"]["differences"] == 2
    shown = run("receipts", "show", "req_0")
    assert "the cost is $0.000872475, and the receipt says $0.000000001" in shown.stdout
