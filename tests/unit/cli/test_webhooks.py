"""`headgate webhooks`: every command, for people and for programs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from headgate.cli.program import app
from headgate.webhooks.model import EVENTS
from tests.fakes.webhooks import run_until_done, running_webhooks

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def data(tmp_path: Path) -> Path:
    with running_webhooks(tmp_path / "data"):
        return tmp_path / "data"


def run(data: Path, *arguments: str) -> str:
    result = CliRunner().invoke(app, ["webhooks", *arguments, "--data", str(data)])
    assert result.exit_code == 0, result.output
    return result.stdout


def run_json(data: Path, *arguments: str) -> Any:
    return json.loads(run(data, *arguments, "--json"))


def test_endpoint_is_managed_by_commands_alone(data: Path) -> None:
    issued = run_json(data, "create", "https://8.8.8.8/hooks", "--event", "key.revoked")
    assert issued["secret"].startswith("whsec_")
    endpoint_id = issued["endpoint"]["id"]
    assert [each["id"] for each in run_json(data, "list")] == [endpoint_id]
    updated = run_json(data, "update", endpoint_id, "--event", "*", "--ordered")
    assert (updated["enabled_events"], updated["ordered"]) == (["*"], True)
    assert run_json(data, "disable", endpoint_id)["disabled_reason"] == "requested"
    assert run_json(data, "enable", endpoint_id)["disabled_at"] is None
    rotated = run_json(data, "rotate", endpoint_id, "--overlap-seconds", "60")
    assert rotated["secret"] != issued["secret"]
    assert "enabled" in run(data, "show", endpoint_id)
    assert run_json(data, "delete", endpoint_id) == {"id": endpoint_id, "deleted": True}
    assert run_json(data, "list") == []


async def test_delivery_is_queued_filtered_shown_and_replayed(data: Path) -> None:
    endpoint_id = run_json(data, "create", "https://8.8.8.8/hooks")["endpoint"]["id"]
    delivery_id = run_json(data, "test", endpoint_id)["id"]
    assert "pending" in run(data, "delivery", endpoint_id, delivery_id)
    with running_webhooks(data) as harness:
        async with harness.dispatcher() as dispatcher:
            await run_until_done(dispatcher)
    listed = run_json(data, "deliveries", endpoint_id, "--status", "delivered")
    assert [each["id"] for each in listed] == [delivery_id]
    assert run_json(data, "deliveries", endpoint_id, "--event", "invoice.paid") == []
    shown = run_json(data, "delivery", endpoint_id, delivery_id)
    assert [each["status_code"] for each in shown["history"]] == [204]
    assert shown["body"]["type"] == "webhook.test"
    assert run_json(data, "replay", endpoint_id, "--delivery", delivery_id) == {"count": 1}
    assert run_json(data, "replay", endpoint_id, "--since", "1d") == {"count": 0}


def test_events_are_listed() -> None:
    result = CliRunner().invoke(app, ["webhooks", "events", "--json"])
    assert [each["name"] for each in json.loads(result.stdout)] == sorted(EVENTS)
