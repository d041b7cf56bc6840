from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import msgspec
import pytest
import sqlalchemy as sa

from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.llm.usage import Usage
from headgate.metering import store as metering
from headgate.metering.store import RECEIPTS
from headgate.relay.ports import Receipt

FULL = Receipt(
    request_id="req_018f3c2a9b4d7e21c09a0000002a",
    created_at=1_700_000_000.25,
    organization_id="org_1",
    project_id="prj_1",
    key_id="key_1",
    credential_id="crd_1",
    managed=True,
    endpoint="/v1/chat/completions",
    method="POST",
    provider="openai",
    model_requested="gpt-4o",
    model_served="gpt-4o-2024-08-06",
    answer_id="chatcmpl-1",
    upstream_request_id="req_up",
    correlation_id="mine",
    status=200,
    outcome="completed",
    error_code="late",
    streamed=True,
    usage=Usage(input_tokens=10, output_tokens=20, tool_calls={"web_search": 2}),
    estimated=True,
    service_tier="flex",
    pricing="priced",
    unpriced_reason="none",
    price_id="price_1",
    cost_nano=2**62,
    attempts=2,
    first_byte_microseconds=3,
    upstream_microseconds=4,
    total_microseconds=5,
    overhead_microseconds=1,
    metadata='{"team":"a"}',
    cache_status="hit",
    credit_nano=7,
)
EMPTY = msgspec.structs.replace(
    FULL,
    credential_id=None,
    managed=False,
    model_requested=None,
    model_served=None,
    answer_id=None,
    upstream_request_id=None,
    correlation_id=None,
    error_code=None,
    streamed=False,
    usage=None,
    estimated=False,
    service_tier=None,
    unpriced_reason=None,
    price_id=None,
    cost_nano=0,
    first_byte_microseconds=-1,
    metadata="",
    cache_status="bypass",
    credit_nano=0,
)


@pytest.fixture
def connection(tmp_path: Path) -> Generator[sa.Connection]:
    database = Database(tmp_path / "test.db")
    with database.transaction() as connection:
        METADATA.create_all(connection)
        yield connection
    database.close()


def make_receipt(number: int, *, organization_id: str = "org_1") -> Receipt:
    """Make the receipt of a call in the given second."""
    return msgspec.structs.replace(
        FULL,
        request_id=f"req_{number * 1000:012x}c09a0000002a",
        created_at=float(number),
        organization_id=organization_id,
        cost_nano=number,
    )


@pytest.mark.parametrize("receipt", [FULL, EMPTY], ids=["full", "empty"])
def test_a_receipt_comes_back_as_it_was_stored(connection: sa.Connection, receipt: Receipt) -> None:
    assert metering.insert(connection, [receipt]) == 1
    assert metering.find(connection, receipt.request_id) == receipt


def test_the_columns_are_the_fields_of_a_receipt() -> None:
    for_observers = {"path", "request_bytes", "response_bytes"}
    assert set(RECEIPTS.c.keys()) - {"rolled_up"} == set(Receipt.__struct_fields__) - for_observers


def test_an_unknown_request_has_no_receipt(connection: sa.Connection) -> None:
    assert metering.find(connection, "req_none") is None


def test_a_second_receipt_of_a_request_changes_nothing(connection: sa.Connection) -> None:
    metering.insert(connection, [FULL])
    again = msgspec.structs.replace(FULL, cost_nano=1)
    assert metering.insert(connection, [again, make_receipt(1)]) == 1
    assert metering.find(connection, FULL.request_id) == FULL
    assert metering.count(connection) == 2


def test_the_newest_receipts_of_an_organization_come_first(connection: sa.Connection) -> None:
    receipts = [make_receipt(number) for number in range(1, 6)]
    metering.insert(connection, [*receipts, make_receipt(9, organization_id="org_2")])
    assert metering.list_recent(connection, "org_1", rows_max=2) == [receipts[4], receipts[3]]


def test_retention_deletes_the_oldest_up_to_its_limit(connection: sa.Connection) -> None:
    metering.insert(connection, [make_receipt(number) for number in range(10)])
    connection.execute(sa.update(RECEIPTS).values(rolled_up=1))
    assert metering.delete_before(connection, 5.0, 3) == 3
    assert metering.delete_before(connection, 5.0, 3) == 2
    assert metering.delete_before(connection, 5.0, 3) == 0
    left = metering.list_recent(connection, "org_1", rows_max=10)
    assert [receipt.created_at for receipt in left] == [9.0, 8.0, 7.0, 6.0, 5.0]
