"""`headgate wallet` and `headgate invoices`, on a directory of its own."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from headgate import settings
from headgate.billing.model.budgets import start_of_month
from headgate.main.application import open_application, open_existing_application
from headgate.metering.store import receipts
from tests.fakes.api import make_tenant
from tests.fakes.commands import run, run_json
from tests.fakes.example_receipt import make_receipt
from tests.fakes.stripe import SECRET_KEY, WEBHOOK_SECRET, running_stripe

MONTH = "2026-03"


@pytest.fixture
def data(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith("HEADGATE_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADGATE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("HEADGATE_EGRESS_ALLOW", "127.0.0.1/32")
    monkeypatch.chdir(tmp_path)
    application = open_application(settings.load({}, data=tmp_path / "data"))
    with application.database.transaction() as connection:
        make_tenant(application, connection, "Acme")
    application.close()
    return tmp_path


def test_the_wallet_is_shown_corrected_and_listed(data: Path) -> None:
    assert run("wallet", "fund", "25", "--reference", "start").exit_code == 0
    words = ("wallet", "adjust", "30.5", "--debit", "--reason", "Wrong", "--reference", "a")
    assert run_json(*words) == {
        "created": True,
        "reference": "a",
        "available": "0.000000000",
        "debt": "5.500000000",
    }
    assert "Already adjusted" in run(*words).stdout
    assert "$5.500000000 is owed" in run("wallet", "show").stdout
    shown = run_json("wallet", "show")
    assert (shown["available"], shown["held"], shown["debt"]) == (
        *("0.000000000", "0.000000000", "5.500000000"),
    )
    assert shown["credits"]["plan"] is None
    assert shown["auto_top_up"]["enabled"] is False
    assert [each["kind"] for each in run_json("wallet", "entries")] == ["adjustment", "grant"]
    assert "adjustment" in run("wallet", "entries", "--limit", "1").stdout
    assert run("wallet", "adjust", "1", "--reason", " ", "--reference", "b").exit_code == 1


def test_the_credits_of_a_plan_are_shown(data: Path) -> None:
    assert run("plans", "assign", "pro", "--overage").exit_code == 0
    shown = run("wallet", "show").stdout
    assert "Credits of the plan Pro" in shown
    assert "the wallet pays what exceeds them" in shown
    assert run_json("wallet", "show")["credits"]["overage"] is True


def test_a_top_up_is_started_and_automatic_ones_are_set(
    data: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    missing = run("wallet", "top-up", "25")
    assert missing.exit_code == 1
    assert "HEADGATE_STRIPE_SECRET_KEY" in missing.output
    with running_stripe() as stripe:
        monkeypatch.setenv("HEADGATE_STRIPE_SECRET_KEY", SECRET_KEY)
        monkeypatch.setenv("HEADGATE_STRIPE_WEBHOOK_SECRET", WEBHOOK_SECRET)
        monkeypatch.setenv("HEADGATE_STRIPE_API_BASE", stripe.url)
        monkeypatch.setenv("HEADGATE_TEST_MODE", "true")
        started = run_json("wallet", "top-up", "25", "--save-payment-method")
        assert started["url"].startswith("https://checkout.stripe.com/")
        assert (started["amount"], started["status"]) == ("25.00", "pending")
        assert "Pay $30.00" in run("wallet", "top-up", "30").stdout
        assert run("wallet", "top-up", "1").exit_code == 1
    refused = run("wallet", "auto-top-up", "--enable", "--threshold", "10", "--amount", "50")
    assert refused.exit_code == 1
    assert "no saved payment method" in refused.output
    words = ("wallet", "auto-top-up", "--threshold", "10", "--amount", "50")
    assert run_json(*words, "--monthly-maximum", "500")["monthly_maximum"] == "500.00"
    assert run_json("wallet", "auto-top-up")["amount"] == "50.00"
    assert run_json("wallet", "auto-top-up", "--monthly-maximum", "none")["threshold"] == (
        "10.000000000"
    )
    assert "are off" in run("wallet", "auto-top-up").stdout
    assert run("wallet", "auto-top-up", "--amount", "0.001").exit_code == 1


def add_receipts(data: Path) -> None:
    """Add two managed calls of March."""
    loaded = settings.load({}, data=data / "data")
    with (
        open_existing_application(loaded) as application,
        application.database.transaction() as connection,
    ):
        owner = application.accounts.find_organization(connection, None)
        project = application.accounts.find_project(connection, None)
        made = [
            make_receipt(
                request_id=f"req_{number}",
                created_at=start_of_month(MONTH) + 60.0,
                organization_id=owner.id,
                project_id=project.id,
                managed=True,
                cost_nano=1_500_000_000,
            )
            for number in range(2)
        ]
        assert receipts.insert(connection, made) == 2


def test_invoices_are_issued_listed_shown_and_written(data: Path) -> None:
    assert run("invoices", "issue", "2026-13").exit_code == 1
    assert run("invoices", "issue", "2999-01").exit_code == 1
    assert "Acme has no invoices." in run("invoices", "list").stdout
    assert "No managed call" in run("invoices", "issue", MONTH).stdout
    add_receipts(data)
    issued = run_json("invoices", "issue", MONTH)
    assert (issued["total"], issued["month"], issued["number"]) == (
        *("3.000000000", MONTH, "INV-000001"),
    )
    assert run_json("invoices", "issue", MONTH) == issued
    assert [each["id"] for each in run_json("invoices", "list")] == [issued["id"]]
    assert "INV-000001" in run("invoices", "list").stdout
    assert run_json("invoices", "show", issued["id"]) == issued
    assert "Total: $3.000000000" in run("invoices", "show", "INV-000001").stdout
    assert run("invoices", "show", "XXX-000001").exit_code == 1
    assert run("invoices", "pdf", "INV-000001").exit_code == 0
    assert (data / "INV-000001.pdf").read_bytes().startswith(b"%PDF-")
    assert run("invoices", "pdf", issued["id"], "--output", "mine.pdf").exit_code == 0
    assert (data / "mine.pdf").is_file()
