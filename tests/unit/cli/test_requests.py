"""`headgate requests list|show|tail|replay`, on a data directory of their own."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from headgate import settings
from headgate.main.application import Application, open_application
from headgate.request_log.model.entry import MICROSECONDS
from tests.fakes.api import Tenant, make_tenant
from tests.fakes.commands import run, run_json
from tests.fakes.requests import keep_request, make_exchange

EVENTS = '[{"type":"fallback","at":1.0,"failed_model":"gpt-5.4","status":500,"attempts":1}]'


class Kept:
    """Hold a data directory with one organization, and put requests into it."""

    def __init__(self, application: Application, tenant: Tenant) -> None:
        self.application = application
        self.tenant = tenant

    def keep(self, **changes: Any) -> None:
        with self.application.database.transaction() as connection:
            keep_request(self.application, connection, self.tenant, **changes)


@pytest.fixture
def kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Kept]:
    for name in [name for name in os.environ if name.startswith(("HEADGATE_", "OPENAI_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HEADGATE_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("COLUMNS", "200")
    application = open_application(settings.load({}, data=tmp_path / "data"))
    with application.database.transaction() as connection:
        tenant = make_tenant(application, connection, "Acme")
    yield Kept(application, tenant)
    application.close()


def test_requests_are_listed_with_filters(kept: Kept) -> None:
    assert "no such requests" in run("requests", "list").stdout
    kept.keep()
    kept.keep(id="req_2", status=429, outcome="refused", error_code="rate_limited")
    shown = run("requests", "list").stdout
    assert "429 refused (rate_limited)" in shown
    assert "2 requests, 1 of them failed or refused." in shown
    assert [each["id"] for each in run_json("requests", "list", "--failed")] == ["req_2"]
    assert run_json("requests", "list", "--since", "1h") == []
    assert run("requests", "list", "--since", "soon").exit_code == 1


def test_request_is_shown_with_its_events_and_bodies(kept: Kept) -> None:
    kept.keep(events=EVENTS, total_microseconds=20_500, gate_microseconds=300)
    shown = run("requests", "show", "req_1").stdout
    assert '"failed_model":"gpt-5.4"' in shown
    assert "gate_ms           0.300" in shown
    assert '"content": "hi"' not in shown
    assert '"content": "hi"' in run("requests", "show", "req_1", "--payload").stdout
    assert run_json("requests", "show", "req_1", "--payload")["payload"]["status"] == 200
    missing = run("requests", "show", "req_9")
    assert (missing.exit_code, "has no request" in missing.output) == (1, True)


def test_new_requests_are_followed(kept: Kept) -> None:
    now = int((kept.application.clock.now() + 5) * MICROSECONDS)
    kept.keep(id="req_old")
    kept.keep(id="req_new", created_at=now, failure_reason="No such model.", status=404)
    lines = run("requests", "tail", "--seconds", "1").stdout.splitlines()
    assert len(lines) == 1
    assert "req_new  404 completed" in lines[0]
    assert lines[0].endswith("No such model.")


def test_request_is_sent_again_and_differences_fail_the_command(kept: Kept) -> None:
    kept.keep()
    differs = run("requests", "replay", "req_1")
    assert differs.exit_code == 1
    assert "choices[0]" in differs.stdout
    result = json.loads(run("requests", "replay", "req_1", "--json").stdout)
    answered = json.dumps(result["replayed"]["json"], separators=(",", ":"), ensure_ascii=False)
    kept.keep(id="req_2", exchange=make_exchange(answered=answered.encode()))
    same = run("requests", "replay", "req_2")
    assert same.exit_code == 0, same.output
    assert "byte for byte" in same.stdout
    refused = run("requests", "replay", "req_1", "--target", "provider")
    assert refused.exit_code == 1
    assert "replayed  4" in refused.stdout
