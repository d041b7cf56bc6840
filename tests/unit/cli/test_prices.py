from __future__ import annotations

import json
import os
import subprocess
import sys
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner, Result

from headgate.audit.model import COMMAND_LINE, SYSTEM
from headgate.audit.service import AuditLog
from headgate.catalog.model.price import DollarRates
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.service.prices import PriceRequest, PriceService
from headgate.cli.program import app
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA, read_revisions

MOON = """
name = "moon"
display_name = "Moonshot"
integration_type = "llm_provider"

[price_source]
provider = "moonshotai"
"""


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("HEADGATE_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    path = tmp_path / "data"
    path.mkdir(mode=0o700)
    monkeypatch.setenv("HEADGATE_DATA", str(path))
    monkeypatch.setenv("COLUMNS", "200")
    database = Database(path / "headgate.db")
    METADATA.create_all(database.engine)
    database.close()
    return path


def run(*words: str, stdin: str = "") -> Result:
    return CliRunner().invoke(app, ["prices", *words], input=stdin)


def run_json(*words: str) -> Any:
    return json.loads(run(*words, "--json").stdout)


def add(data: Path, *, source: str = "an older list", tier: str = "default", **rates: str) -> None:
    """A row of gpt-5.4 that is in force now."""
    database = Database(data / "headgate.db")
    clock = SystemClock()
    service = PriceService(Catalog.load(), AuditLog(clock), clock)
    amounts: dict[str, Any] = {name: Decimal(rate) for name, rate in rates.items()}
    with database.transaction() as connection:
        request = PriceRequest(
            integration="openai", model="gpt-5.4", tier=tier, rates=DollarRates(**amounts)
        )
        service.add(connection, request, by=SYSTEM, source=source)
    database.close()


def test_shipped_prices_are_equal_to_the_installed_list(data: Path) -> None:
    result = run("diff")
    assert result.exit_code == 0, result.output
    assert "All compared prices are equal to those of genai-prices 0.2" in result.stdout


def test_difference_is_shown_and_applied_as_a_new_row(data: Path) -> None:
    add(data, input="2", cached_input="0.25", output="15", per_image="1")
    add(data, tier="scale", input="1")
    told = run("diff")
    assert told.exit_code == 1
    lines = [line.split() for line in told.stdout.splitlines() if "gpt-5.4" in line]
    said = [[word for word in line if word not in "│|"] for line in lines]
    assert said == [
        ["gpt-5.4", "default", "input", "2", "2.5", "+25.0", "%"],
        ["gpt-5.4", "default", "per_image", "1", "-", "removed"],
        ["gpt-5.4", "scale", "input", "1", "-", "removed"],
    ]
    assert [each["model"] for each in run_json("diff")] == ["gpt-5.4", "gpt-5.4"]
    refused = run("apply", stdin="n\n")
    assert refused.exit_code == 1
    assert run("diff").exit_code == 1
    applied = run("apply", stdin="y\n")
    assert applied.exit_code == 0, applied.output
    assert "2 rows are in force from" in applied.stdout
    assert run("diff").exit_code == 0
    rows = run_json(
        "list", "--integration", "openai", "--model", "gpt-5.4", "--tier", "default", "--history"
    )
    newest, older = (row for row in rows if row["above_input_tokens"] < 0 and row["number"])
    assert (newest["state"], older["state"]) == ("in_force", "over")
    assert newest["rates"] == {"input": "2.5", "cached_input": "0.25", "output": "15"}
    assert newest["source"].startswith("genai-prices 0.2")
    assert newest["created_by"] == COMMAND_LINE.id
    assert older["rates"]["input"] == "2"


def test_price_of_the_operator_stays_unchanged(data: Path) -> None:
    add(data, source="operator", input="1", output="1")
    result = run("diff")
    assert result.exit_code == 0
    assert "1 prices that an operator set are left unchanged." in result.stdout


def test_prices_can_be_applied_at_a_future_time(data: Path) -> None:
    add(data, input="2")
    assert run("apply", "--yes", "--effective-from", "12h").exit_code == 0
    assert run("diff").exit_code == 1, "not in force yet"
    rows = run_json("list", "--integration", "openai", "--model", "gpt-5.4", "--tier", "default")
    assert [row["state"] for row in rows if row["above_input_tokens"] < 0] == ["future", "in_force"]
    past = run("apply", "--yes", "--effective-from", "2026-01-01")
    assert past.exit_code == 1
    assert "charged prices cannot change" in past.output


def test_all_prices_of_another_provider_are_applied(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = tmp_path / "catalog"
    folder.mkdir()
    (folder / "moon.toml").write_text(MOON)
    monkeypatch.setenv("HEADGATE_CATALOG_DIR", str(folder))
    found = run_json("diff", "--integration", "moon")
    assert len(found) > 3
    assert all(ours is None for each in found for ours, _ in each["rates"].values())
    assert run("apply", "--integration", "moon", "--yes").exit_code == 0
    assert run("diff", "--integration", "moon").exit_code == 0
    database = Database(data / "headgate.db")
    catalog = Catalog.load(folder)
    with database.reading() as connection:
        assert read_revisions(connection) == {"catalog": 1}
        catalog.reload(connection)
    database.close()
    assert catalog.price_at("moon", found[0]["model"], SystemClock().now() + 1) is not None


def test_integration_that_cannot_be_compared_is_named(
    data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert "no integration 'nobody'" in run("diff", "--integration", "nobody").output
    monkeypatch.setenv("HEADGATE_CATALOG_DIR", str(tmp_path))
    (tmp_path / "moon.toml").write_text(MOON.partition("[price_source]")[0])
    assert "names no list" in run("diff", "--integration", "moon").output
    (tmp_path / "moon.toml").write_text(MOON.replace("moonshotai", "nobody"))
    assert "has no provider 'nobody'" in run("diff", "--integration", "moon").output


def test_list_shows_rates_and_sources(data: Path) -> None:
    shown = run("list", "--model", "gpt-4.1").stdout
    assert "openai/gpt-4.1" in shown
    assert "cached_input 0.5" in shown
    assert "batch" in shown
    assert run_json("list", "--integration", "nobody") == []


@pytest.mark.parametrize(("words", "status"), [(["list"], 0), (["diff"], 1)])
def test_list_is_needed_for_the_comparison_alone(data: Path, words: list[str], status: int) -> None:
    without = (
        "import sys; sys.modules['genai_prices'] = None; from headgate.cli import main; main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", without, "prices", *words],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "HEADGATE_DATA": str(data)},
    )
    assert done.returncode == status, done.stderr
    assert ("pip install 'headgate[prices]'" in done.stderr) is bool(status)
