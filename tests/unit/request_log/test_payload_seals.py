"""Kept bodies are one more sealed table, on both databases."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from headgate.kit.crypto import SecretKey
from headgate.request_log.model.payload import PayloadNotKeptError, encode_exchange
from headgate.request_log.service.payloads import open_payload, seal_payloads
from headgate.request_log.store import payloads
from headgate.vault.service import find_unreadable_rows
from headgate.vault.service.sealed_tables import iterate_rows, reseal
from tests.fakes.requests import make_exchange
from tests.fakes.vault import VaultHarness

TABLE = "request_payloads"


@pytest.fixture
def harness(empty_place: Path | str) -> Iterator[VaultHarness]:
    harness = VaultHarness(empty_place)
    yield harness
    harness.database.close()


def test_bodies_open_are_checked_and_move_to_another_key(harness: VaultHarness) -> None:
    exchange = make_exchange()
    body = encode_exchange(exchange)
    with harness.database.transaction() as connection:
        kept = [("req_1", body), ("req_2", body)]
        assert seal_payloads(connection, harness.sealer, harness.own, kept) == 2
    with harness.database.transaction() as connection:
        assert open_payload(connection, harness.sealer, "req_1") == exchange
        assert find_unreadable_rows(connection, harness.sealer) == []
        row, other = iterate_rows(connection, TABLE)
        assert other["sealed"] != row["sealed"]
        keys = harness.sealer.organization_keys(connection)
        changed = reseal(TABLE, row, keys[row["key_id"]], row["key_id"], SecretKey.generate())
        assert changed["seal_number"] == 2
        assert payloads.delete(connection, ["req_1", "req_9"]) == 1
        assert payloads.delete(connection, []) == 0
        with pytest.raises(PayloadNotKeptError):
            open_payload(connection, harness.sealer, "req_1")
