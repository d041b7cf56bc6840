"""A receipt with everything that explains its amount, and pages of receipts."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from headgate.billing.model.receipts import ReceiptDetails, find_wallet_debit
from headgate.billing.service import reconciliation
from headgate.billing.service.receipts import ReceiptNotFoundError, ReceiptService
from headgate.kit.page_cursor import InvalidPageCursorError, parse_page_cursor
from headgate.metering import store as metering
from headgate.metering.model.receipt_filter import (
    ReceiptFilter,
    ReceiptList,
    find_place,
)
from headgate.metering.store import receipt_list
from headgate.relay.ports import Receipt
from tests.fakes.ledger import NOVEMBER, ORG, LedgerHarness, make_hold, running_ledger
from tests.fakes.priced_receipts import build_prices, find_price, make_priced

pytestmark = pytest.mark.anyio
OWN = ReceiptFilter(organization_id=ORG)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def process(empty_place: Path | str) -> AsyncGenerator[LedgerHarness]:
    async with running_ledger(empty_place, funded_nano=10**9) as process:
        yield process


def get(process: LedgerHarness, name: str, visible: ReceiptFilter = OWN) -> ReceiptDetails:
    with process.database.reading() as connection:
        return ReceiptService(build_prices(process.clock)).get(connection, visible, name)


def store(process: LedgerHarness, *receipts: Receipt) -> None:
    with process.database.transaction() as connection:
        metering.insert(connection, receipts)


def page(process: LedgerHarness, cursor: str | None = None, **given: Any) -> ReceiptList:
    limit, scanned_max = given.pop("limit", 100), given.pop("scanned_max", 100_000)
    filters = msgspec.structs.replace(OWN, **given)
    after = None if cursor is None else parse_page_cursor(cursor)
    with process.database.reading() as connection:
        return receipt_list.list_page(
            connection, filters, after=after, limit=limit, scanned_max=scanned_max
        )


async def test_managed_call_shows_its_lines_hold_and_entries(process: LedgerHarness) -> None:
    hold = await process.ledger.hold(make_hold("req_1", 10_000_000))
    receipt = make_priced(request_id="req_1", managed=True)
    await process.ledger.record(receipt, hold)
    details = get(process, "req_1")
    assert details.receipt.cost_nano == receipt.cost_nano
    found = details.recomputation
    assert found.basis == "usage"
    assert found.matches(details.receipt)
    assert found.itemization is not None
    lines = [(item.name, item.quantity) for item in found.itemization.items]
    assert lines == [("input", 668), ("cached_input", 333), ("output", 67), ("reasoning", 10)]
    amounts = sum(item.amount_nano for item in found.itemization.items)
    assert amounts + found.itemization.rounding_nano == receipt.cost_nano
    assert details.hold is not None
    assert (details.hold.amount_nano, details.hold.state) == (10_000_000, "settled")
    assert details.hold.find_released(receipt.cost_nano) == 10_000_000 - receipt.cost_nano
    moved = [
        (e.transaction_id, e.account_id.partition(":")[2], e.amount_nano) for e in details.entries
    ]
    assert moved == [
        ("hold:req_1", "wallet", -10_000_000),
        ("hold:req_1", "held", 10_000_000),
        ("settle:req_1", "held", -10_000_000),
        ("settle:req_1", "revenue", receipt.cost_nano),
        ("settle:req_1", "wallet", 10_000_000 - receipt.cost_nano),
    ]
    assert details.total_nano == receipt.cost_nano
    assert -sum(e.amount_nano for e in details.entries if "wallet" in e.account_id) == (
        find_wallet_debit(details.receipt)
    )


async def test_own_key_call_records_tokens_and_list_price_and_moves_no_money(
    process: LedgerHarness,
) -> None:
    before = process.read_accounts()
    await process.ledger.record(make_priced(request_id="req_1", managed=False), None)
    details = get(process, "req_1")
    assert details.receipt.usage == make_priced().usage
    assert details.receipt.cost_nano == find_price().cost(make_priced().usage, "default") != 0  # type: ignore[arg-type]
    assert (details.hold, details.entries, find_wallet_debit(details.receipt)) == (None, (), 0)
    assert process.read_accounts() == before
    with process.database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM holds").scalar_one() == 0


async def test_corrections_are_linked_to_the_first_receipt(process: LedgerHarness) -> None:
    hold = await process.ledger.hold(make_hold("req_1", 5_000))
    charged = make_priced(request_id="req_1", managed=True)
    unknown = msgspec.structs.replace(charged, usage=None, outcome="unknown", cost_nano=5_000)
    await process.ledger.record(unknown, hold)
    with process.database.transaction() as connection:
        for cost in (2_000, 9_000):
            reconciliation.correct(connection, "req_1", cost, at=NOVEMBER + 60)
    details = get(process, "req_1")
    assert details.recomputation.basis == "hold"
    assert details.recomputation.matches(details.receipt)
    assert [(c.request_id, c.cost_nano) for c in details.corrections] == [
        ("req_1.c1", -3_000),
        ("req_1.c2", 7_000),
    ]
    assert details.total_nano == 9_000
    revenue = [e.amount_nano for e in details.entries if e.account_id.endswith(":revenue")]
    assert sum(revenue) == 9_000
    second = get(process, "req_1.c2")
    assert second.recomputation.basis == "correction"
    assert {entry.transaction_id for entry in second.entries} == {"correct:req_1.c2"}
    assert second.corrections == ()


async def test_receipt_is_found_by_every_id_of_its_call(process: LedgerHarness) -> None:
    mine = make_priced(
        request_id="req_1", correlation_id="order-7", upstream_request_id="up-1", answer_id="chat-1"
    )
    newer = msgspec.structs.replace(
        mine, request_id="req_2", created_at=NOVEMBER + 1, answer_id="x"
    )
    store(process, mine, newer)
    for name in ("req_1", "chat-1"):
        assert get(process, name).receipt.request_id == "req_1"
    assert get(process, "order-7").receipt.request_id == "req_2"
    with pytest.raises(ReceiptNotFoundError):
        get(process, "none")


@pytest.mark.parametrize(
    "visible",
    [
        ReceiptFilter(organization_id="org_2"),
        ReceiptFilter(organization_id=ORG, projects=("proj_2",)),
        ReceiptFilter(organization_id=ORG, key_id="key_2"),
    ],
    ids=["organization", "project", "key"],
)
async def test_foreign_receipt_does_not_exist(
    process: LedgerHarness, visible: ReceiptFilter
) -> None:
    store(process, make_priced(request_id="req_1", correlation_id="order-7"))
    for name in ("req_1", "order-7", "req_none"):
        with pytest.raises(ReceiptNotFoundError):
            get(process, name, visible)


async def test_pages_have_every_receipt_once_newest_first(process: LedgerHarness) -> None:
    receipts = [
        make_priced(request_id=f"req_{number:02}", created_at=NOVEMBER + number // 4)
        for number in range(23)
    ]
    store(process, *receipts, make_priced(request_id="req_other", organization_id="org_2"))
    seen: list[str] = []
    cursor: str | None = None
    while True:
        found = page(process, cursor, limit=5)
        seen += [receipt.request_id for receipt in found.receipts]
        if found.next is None:
            break
        cursor = str(found.next)
    assert seen == [f"req_{number:02}" for number in reversed(range(23))]


async def test_page_examines_a_bounded_number_of_receipts(process: LedgerHarness) -> None:
    receipts = [
        make_priced(request_id=f"req_{n:02}", created_at=NOVEMBER + n, status=500 if n < 3 else 200)
        for n in range(20)
    ]
    store(process, *receipts)
    seen: list[str] = []
    pages = 0
    found = page(process, status=500, scanned_max=4)
    while True:
        pages += 1
        seen += [receipt.request_id for receipt in found.receipts]
        if found.next is None:
            break
        found = page(process, str(found.next), status=500, scanned_max=4)
    assert seen == ["req_02", "req_01", "req_00"]
    assert pages == 5


MATCHING: list[tuple[dict[str, Any], dict[str, Any]]] = [
    ({"key_id": "k"}, {"key_id": "k"}),
    ({"project_id": "p"}, {"project_id": "p"}),
    ({"project_id": "p"}, {"projects": ("p", "q")}),
    ({"credential_id": "c"}, {"credential_id": "c"}),
    ({"provider": "acme"}, {"provider": "acme"}),
    ({"model_requested": "m"}, {"model": "m"}),
    ({"model_served": "m-2026"}, {"model": "m-2026"}),
    ({"model_requested": "openai/m"}, {"model": "m"}),
    ({"endpoint": "embeddings"}, {"endpoint": "embeddings"}),
    ({"outcome": "broken"}, {"outcome": "broken"}),
    ({"pricing": "partial"}, {"pricing": "partial"}),
    ({"status": 429}, {"status": 429}),
    ({"managed": True}, {"managed": True}),
    ({"streamed": True}, {"streamed": True}),
    ({"cache_status": "hit"}, {"cache_status": "hit"}),
    ({"cost_nano": 10**9}, {"cost_min_nano": 10**9}),
    ({"cost_nano": 1}, {"cost_max_nano": 1}),
    ({"correlation_id": "mine"}, {"correlation_id": "mine"}),
    ({"upstream_request_id": "up"}, {"upstream_request_id": "up"}),
    ({"answer_id": "chatcmpl-9"}, {"response_id": "chatcmpl-9"}),
    ({"metadata": '{"team":"a","x":"y"}'}, {"metadata": ("x", "y")}),
    ({"created_at": NOVEMBER + 9}, {"since": NOVEMBER + 9}),
    ({"created_at": NOVEMBER - 9}, {"until": NOVEMBER}),
]


@pytest.mark.parametrize(("fields", "given"), MATCHING, ids=lambda value: "-".join(value))
async def test_filter_finds_what_has_it_and_nothing_else(
    process: LedgerHarness, fields: dict[str, Any], given: dict[str, Any]
) -> None:
    plain = make_priced(request_id="req_1")
    marked = msgspec.structs.replace(plain, request_id="req_2", **fields)
    store(process, plain, marked)
    assert [receipt.request_id for receipt in page(process, **given).receipts] == ["req_2"]


WORDS = st.text(st.sampled_from('ab":,{}\\\n%_é'), max_size=4)


@given(st.dictionaries(WORDS, WORDS, max_size=4), WORDS, WORDS)
def test_pair_of_metadata_is_found_exactly(pairs: dict[str, str], key: str, value: str) -> None:
    receipt = make_priced(metadata=msgspec.json.encode(pairs).decode() if pairs else "")
    assert find_pair(receipt, key, value) == (pairs.get(key) == value)


_ENGINE = sa.create_engine("sqlite://")


def find_pair(receipt: Receipt, key: str, value: str) -> bool:
    with _ENGINE.begin() as connection:
        metering.RECEIPTS.metadata.create_all(connection, tables=[metering.RECEIPTS])
        connection.execute(sa.delete(metering.RECEIPTS))
        metering.insert(connection, [receipt])
        filters = msgspec.structs.replace(OWN, metadata=(key, value))
        return bool(receipt_list.list_page(connection, filters, after=None, limit=1).receipts)


@pytest.mark.parametrize("text", ["", "x", "12", "1.é", "1." + "a" * 200, "-1.req"])
def test_cursor_that_is_none_is_refused(text: str) -> None:
    with pytest.raises(InvalidPageCursorError):
        parse_page_cursor(text)


def test_cursor_names_a_place_exactly() -> None:
    place = find_place(make_priced(request_id="req_1.c2", created_at=1_795_000_000.123457))
    assert place.created_at == 1_795_000_000_123_457
    assert parse_page_cursor(str(place)) == place
