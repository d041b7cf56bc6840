"""Payments on real servers: killed with SIGKILL, and two of them on one PostgreSQL."""

from __future__ import annotations

import base64
import contextlib
import http.client
import json
import os
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from headgate.kit.db.engine import Database
from tests.fakes.gateway import Gateway, running_gateway
from tests.fakes.http_connection import HttpResponse, ask
from tests.fakes.stripe import SECRET_KEY, WEBHOOK_SECRET, FakeStripe, running_stripe
from tests.fakes.waiting import wait_until

CALLBACK = "/api/payments/stripe/callback"
MASTER_KEY = base64.b64encode(os.urandom(32)).decode()
AUTO = {"enabled": True, "threshold": "30", "amount": "50", "monthly_maximum": "50"}


@pytest.fixture
def stripe() -> Generator[FakeStripe]:
    with running_stripe() as fake:
        yield fake


@contextlib.contextmanager
def running(
    folder: Path, stripe: FakeStripe, *names: str, **given: str
) -> Generator[list[Gateway]]:
    """Run servers with payments; the one that made the keys is first."""
    given |= {
        "stripe_secret_key": SECRET_KEY,
        "stripe_webhook_secret": WEBHOOK_SECRET,
        "stripe_api_base": stripe.url,
        "test_mode": "true",
    }
    with contextlib.ExitStack() as stack:
        gateways = [stack.enter_context(running_gateway(folder / name, **given)) for name in names]
        for each in gateways[1:]:
            each.keys |= gateways[0].keys
        yield gateways


def call(gateway: Gateway, method: str, path: str, body: Any = None) -> Any:
    headers = {"authorization": f"Bearer {gateway.keys['admin_key']}"}
    headers["content-type"] = "application/json"
    answer = ask(gateway.port, method, path, headers, json.dumps(body).encode() if body else None)
    assert answer.status in (200, 201), answer.body
    return answer.json


def send(gateway: Gateway, stripe: FakeStripe, event: dict[str, Any]) -> HttpResponse:
    raw, signature = stripe.sign(event)
    headers = {"stripe-signature": signature, "content-type": "application/json"}
    return ask(gateway.port, "POST", CALLBACK, headers, raw)


def start(gateway: Gateway, stripe: FakeStripe) -> list[dict[str, Any]]:
    """Start a payment of $25 that saves the card, and pay it. Return the events."""
    body = {"amount": "25", "save_payment_method": True}
    order = call(gateway, "POST", "/v1/wallet/top-ups", body)
    return stripe.pay(order["session_id"])


def read_available(gateway: Gateway) -> str:
    return call(gateway, "GET", "/v1/wallet")["available"]


def list_numbers(gateway: Gateway) -> list[str]:
    found = call(gateway, "GET", "/v1/invoices")["invoices"]
    return [each["number"] for each in reversed(found)]


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "point", ["payment_credited", pytest.param("mid_invoice", marks=pytest.mark.prove)]
)
def test_a_server_killed_in_the_middle_of_a_credit_credits_once(
    tmp_path: Path, stripe: FakeStripe, point: str
) -> None:
    with running(tmp_path, stripe, "data", failpoint=f"{point}=kill") as [gateway]:
        events = start(gateway, stripe)
        with pytest.raises((OSError, http.client.HTTPException)):
            send(gateway, stripe, events[1])
        assert gateway.process.wait(20) == -9
        keys = gateway.keys
    with running(tmp_path, stripe, "data") as [gateway]:
        gateway.keys |= keys
        assert read_available(gateway) == "0.00"
        assert list_numbers(gateway) == []
        outcomes = [send(gateway, stripe, event).json["outcome"] for event in [*events, *events]]
        assert outcomes == ["credited", "already_credited", "duplicate", "duplicate"]
        assert read_available(gateway) == "25.00"
        assert list_numbers(gateway) == ["INV-000001"]
        assert gateway.run("ledger", "verify").returncode == 0


@pytest.mark.prove
@pytest.mark.timeout(120)
def test_a_server_killed_between_charge_and_credit_charges_once(
    tmp_path: Path, stripe: FakeStripe
) -> None:
    with running(tmp_path, stripe, "data", failpoint="top_up_charged=kill") as [gateway]:
        for event in start(gateway, stripe):
            send(gateway, stripe, event)
        call(gateway, "PATCH", "/v1/wallet/auto-top-up", AUTO)
        assert gateway.process.wait(30) == -9
        keys = gateway.keys
    assert stripe.charged == [5000]
    database = Database(tmp_path / "data" / "headgate.db")
    with database.transaction() as connection:
        # As if the minute had passed after which another process continues it.
        connection.exec_driver_sql("UPDATE payment_orders SET attempted_at = 0")
    database.close()
    with running(tmp_path, stripe, "data") as [gateway]:
        gateway.keys |= keys
        wait_until(lambda: read_available(gateway) == "75.00", timeout_seconds=30)
        assert stripe.charged == [5000]
        assert list_numbers(gateway) == ["INV-000001", "INV-000002"]
        assert gateway.run("ledger", "verify").returncode == 0


@pytest.mark.prove
@pytest.mark.timeout(180)
def test_ten_messages_at_once_to_two_servers_credit_once_and_one_of_them_charges(
    tmp_path: Path, stripe: FakeStripe, postgres_url: str
) -> None:
    given = {"database_url": postgres_url, "master_key": MASTER_KEY}
    with (
        running(tmp_path, stripe, "a", "b", **given) as gateways,
        ThreadPoolExecutor(10) as pool,
    ):
        for number in range(1, 4):
            _, paid = start(gateways[0], stripe)
            asked = [pool.submit(send, each, stripe, paid) for each in gateways * 5]
            answers = [each.result() for each in asked]
            assert [each.status for each in answers] == [200] * 10
            outcomes = sorted(each.json["outcome"] for each in answers)
            assert outcomes == ["credited"] + ["duplicate"] * 9
            assert read_available(gateways[1]) == f"{25 * number}.00"
        assert list_numbers(gateways[1]) == ["INV-000001", "INV-000002", "INV-000003"]
        for event in stripe.events:
            send(gateways[0], stripe, event)
        call(gateways[0], "PATCH", "/v1/wallet/auto-top-up", {**AUTO, "threshold": "100"})
        wait_until(lambda: read_available(gateways[1]) == "125.00", timeout_seconds=30)
        assert stripe.charged == [5000]
        assert gateways[0].run("ledger", "verify").returncode == 0
