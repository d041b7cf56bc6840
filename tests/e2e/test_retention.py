"""Receipts that are old enough are deleted: by the server itself, or by a command beside it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from headgate.kit.db.engine import Database
from headgate.kit.ids import first_id
from headgate.metering import store as metering
from tests.fakes.example_receipt import make_receipt
from tests.fakes.gateway import Gateway, running_gateway, start_gateway
from tests.fakes.raw_client import RawClient
from tests.fakes.server_database import ServerDatabase
from tests.fakes.upstream import FakeUpstream
from tests.fakes.waiting import wait_until

LONG_AGO = 1_700_000_000.0
OLD = 300
COMPLETION = b'{"id":"c1","model":"gpt-5.4-mini","choices":[]}'


def call(gateway: Gateway) -> None:
    with RawClient(gateway.port, gateway.key) as line:
        line.ask(body={"model": "gpt-5.4-mini", "messages": []})
        status, _ = line.read_answer()
    assert status == 200


def add_old(data: Path) -> None:
    database = Database(data / "headgate.db")
    receipts = [
        make_receipt(
            request_id=f"{first_id('req', LONG_AGO + number)}{number:020x}",
            created_at=LONG_AGO + number,
        )
        for number in range(OLD)
    ]
    try:
        with database.transaction() as connection:
            assert metering.insert(connection, receipts) == OLD
    finally:
        database.close()


def test_server_deletes_what_is_older_than_the_retention(
    upstream: FakeUpstream, tmp_path: Path
) -> None:
    upstream.script = lambda received: received.answer(COMPLETION)
    data = tmp_path / "data"
    with running_gateway(data, provider_url=upstream.base_url) as gateway:
        call(gateway)
        assert gateway.stop() == 0
        add_old(data)
        assert ServerDatabase(data).count() == OLD + 1
        gateway.process = start_gateway(data, port=gateway.port, retention_days=30).process
        wait_until(lambda: ServerDatabase(data).count() == 1, 20.0)
        call(gateway)
        assert gateway.stop() == 0
        logged = [json.loads(line) for line in gateway.log.read_text().splitlines()]
    [told] = [line for line in logged if line.get("event") == "retention.done"]
    assert told["receipts"] == OLD
    assert [row["created_at"] > LONG_AGO * 2 for row in ServerDatabase(data).receipts()] == [
        True,
        True,
    ]


def test_receipts_are_counted_and_deleted_by_hand(
    gateway: Gateway, upstream: FakeUpstream, server_database: ServerDatabase
) -> None:
    upstream.script = lambda received: received.answer(COMPLETION)
    add_old(gateway.data)
    call(gateway)
    counted = gateway.run("receipts", "prune", "--before", "30d", "--dry-run")
    assert counted.stdout.startswith(f"{OLD} receipts are older than ")
    assert server_database.count() == OLD + 1
    done = gateway.run("receipts", "prune", "--before", "2024-01-01T00:00:00Z")
    assert done.stdout == f"{OLD} receipts older than 2024-01-01 00:00 UTC are deleted.\n"
    assert server_database.count() == 1


@pytest.mark.parametrize("before", ["yesterday", "2999-01-01"])
def test_invalid_time_is_refused(gateway: Gateway, before: str) -> None:
    refused = gateway.run("receipts", "prune", "--before", before)
    assert refused.returncode == 1
    assert refused.stderr.startswith(f"headgate: '{before}' is ")
