"""`headgate usage`: today's spend by model and key in one command, and exports of everything."""

from __future__ import annotations

import csv
import datetime
import importlib
import json
import os
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headgate.accounts.service import AccountService
from headgate.audit.model import SYSTEM
from headgate.audit.service import AuditLog
from headgate.cli.program import app
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.ids import IdGenerator
from headgate.metering import store as metering
from headgate.vault.service import create_master_key, store_master_key
from tests.fakes.example_receipt import make_receipt

DAY = datetime.datetime(2026, 3, 28, 12, tzinfo=datetime.UTC).timestamp()


def run(*words: str) -> Result:
    return CliRunner().invoke(app, ["usage", *words])


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a data directory with three calls in March, and two of now."""
    for name in [name for name in os.environ if name.startswith(("HEADGATE_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADGATE_DATA", str(tmp_path))
    monkeypatch.setenv("COLUMNS", "200")
    clock = SystemClock()
    database = Database(tmp_path / "headgate.db")
    importlib.import_module("headgate.main.application")  # It knows every table.
    METADATA.create_all(database.engine)
    accounts = AccountService(clock, IdGenerator(), AuditLog(clock))
    with database.transaction() as connection:
        store_master_key(connection, create_master_key(tmp_path / "master.key"), now=0.0)
        organization = accounts.create_organization(connection, "Acme", by=SYSTEM)
        project = accounts.create_project(
            connection, "Search", organization_id=organization.id, by=SYSTEM
        )
        common: dict[str, Any] = {"organization_id": organization.id, "project_id": project.id}
        receipts = [
            make_receipt(request_id="req_a", created_at=DAY, cost_nano=12_000_000, **common),
            make_receipt(request_id="req_b", created_at=DAY + 86_400, cost_nano=1, **common),
            make_receipt(
                request_id="req_c",
                created_at=DAY,
                cost_nano=40_000_000,
                model_requested='=HYPERLINK("x")',
                managed=True,
                outcome="upstream_error",
                **common,
            ),
            make_receipt(request_id="req_d", created_at=clock.now() - 1, **common),
            make_receipt(
                request_id="req_e",
                created_at=clock.now() - 1,
                model_requested="gpt-5.4",
                cost_nano=7_000_000,
                **common,
            ),
        ]
        metering.insert(connection, receipts)
    database.close()
    return tmp_path


@pytest.mark.usefixtures("data")
def test_spend_of_today_by_model_and_key() -> None:
    lines = run().stdout.splitlines()
    assert [word for word in lines[1].split() if word.isalpha()][:3] == ["Model", "Key", "Calls"]
    assert "gpt-5.4 " in lines[3]
    assert "0.007" in lines[3]
    assert lines[3].count("█") == 12
    assert "gpt-5.4-mini" in lines[4]
    assert "Total" in lines[6]


@pytest.mark.usefixtures("data")
def test_json_has_exact_amounts_of_the_range() -> None:
    words = ("--since", "2026-03-28", "--until", "2026-03-30", "--by", "day,project", "--json")
    report = json.loads(run(*words).stdout)
    assert [row["requests"] for row in report["data"]] == [2, 1, 0]
    assert [row["cost"] for row in report["data"]] == ["0.052", "0.000000001", "0"]
    assert report["total"]["cost"] == "0.052000001"
    words = ("--since", "2026-03-28", "--until", "2026-03-30", "--by", "managed", "--json")
    assert [row["managed"] for row in json.loads(run(*words).stdout)["data"]] == [False, True]


@pytest.mark.usefixtures("data")
def test_tables_by_project_and_time_have_names() -> None:
    words = ("--since", "2026-03-28", "--until", "2026-03-30", "--by", "hour,project,managed")
    output = run(*words).stdout
    assert "Search (proj_" in output
    assert "own key" in output
    assert "2026-03-28 00:00 to 2026-03-31 00:00 UTC" in output
    assert run("--since", "30d", "--by", "month", "--zone", "Asia/Kolkata").exit_code == 0


def test_exports_have_every_row(data: Path) -> None:
    words = ("--since", "2026-03-28", "--until", "2026-03-30", "--by", "day,model,managed")
    assert "6 rows" in run(*words, "--output", str(data / "x.csv")).stdout
    assert "6 rows" in run(*words, "--output", str(data / "x.parquet")).stdout
    with (data / "x.csv").open(newline="") as file:
        rows = list(csv.DictReader(file))
    parquet: Any = importlib.import_module("pyarrow.parquet")
    table: list[dict[str, Any]] = parquet.read_table(data / "x.parquet").to_pylist()
    assert len(rows) == len(table) == 6
    assert rows[0]["model"] == '\'=HYPERLINK("x")'
    assert rows[0]["start"] == "2026-03-28T00:00:00+00:00"
    assert rows[0]["managed"] == "true"
    assert table[0]["model"] == '=HYPERLINK("x")'
    assert [Decimal(row["cost"]) for row in rows] == [row["cost"] for row in table]
    assert sum(row["cost"] for row in table) == Decimal("0.052000001")
    assert (rows[0]["p95_ms"], table[0]["p95_ms"]) == ("", None)


def test_missing_package_and_other_names_are_refused(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert run("--output", str(data / "x.xlsx")).exit_code == 1
    assert run("--by", "colour").exit_code == 1
    assert run("--since", "tomorrow").exit_code == 1
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    refused = run("--output", str(data / "x.parquet"))
    assert "pip install 'headgate[export]'" in refused.output
    assert run("--output", str(data / "x.csv")).exit_code == 0


@pytest.mark.usefixtures("data")
def test_days_are_those_of_the_reporting_zone() -> None:
    words = ["organizations", "update", "--reporting-zone", "Asia/Kolkata"]
    changed = CliRunner().invoke(app, words)
    assert "counts days in Asia/Kolkata" in changed.stdout
    report = json.loads(run("--since", "2026-03-28", "--json").stdout)
    assert report["total"]["start"] == "2026-03-28T00:00:00+05:30"
    assert CliRunner().invoke(app, ["organizations", "update"]).exit_code == 1
    words[-1] = "Mars/Olympus"
    assert CliRunner().invoke(app, words).exit_code == 1
