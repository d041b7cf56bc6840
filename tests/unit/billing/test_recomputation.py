"""Recomputed receipts cost what they cost; a tampered one is found."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st

from headgate.audit.model import SYSTEM
from headgate.billing.model.recomputation import Recomputation, recompute
from headgate.billing.service import recomputation
from headgate.billing.service.recomputation import CostDifference, Recomputer
from headgate.catalog.model.price import DollarRates
from headgate.catalog.service.prices import PriceRequest
from headgate.llm.usage import Usage
from headgate.metering import store as metering
from headgate.metering.model.receipt_filter import ReceiptFilter
from headgate.metering.store import RECEIPTS
from headgate.relay.ports import Receipt
from tests.fakes.ledger import NOVEMBER, ORG, LedgerHarness, make_hold, running_ledger
from tests.fakes.priced_receipts import (
    MODEL,
    build_prices,
    find_price,
    make_priced,
)

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def process(empty_place: Path | str) -> AsyncGenerator[LedgerHarness]:
    async with running_ledger(empty_place, funded_nano=10**9) as process:
        yield process


def store(process: LedgerHarness, *receipts: Receipt) -> None:
    with process.database.transaction() as connection:
        metering.insert(connection, receipts)


def run(process: LedgerHarness, **given: Any) -> tuple[Recomputer, list[CostDifference]]:
    recomputer = Recomputer(process.database, build_prices(process.clock))
    ranges = [
        ReceiptFilter(organization_id=owner, **given) for owner in recomputer.list_organizations()
    ]
    return recomputer, list(recomputer.run(ranges))


def tamper(process: LedgerHarness, request_id: str, **values: Any) -> None:
    change = sa.update(RECEIPTS).where(RECEIPTS.c.request_id == request_id).values(values)
    with process.database.transaction() as connection:
        assert connection.execute(change).rowcount == 1


async def test_new_price_changes_no_receipt(process: LedgerHarness) -> None:
    store(process, make_priced(request_id="req_1"))
    prices = build_prices(process.clock)
    with process.database.transaction() as connection:
        rates = DollarRates(input=Decimal(99), output=Decimal(99))
        request = PriceRequest(integration="openai", model=MODEL, rates=rates)
        added = prices.add(connection, request, by=SYSTEM)
        current = prices.find_in_force(connection, "openai")
    assert current[MODEL, "default", -1] == added
    recomputer, differences = run(process)
    assert differences == []
    assert recomputer.totals.by_basis == {"usage": 1}


@pytest.mark.parametrize(
    "values",
    [
        {"cost_nano": 1},
        {"usage": '{"input_tokens":2}'},
        {"usage": '{"input_tokens":1,"cached_tokens":2}'},
        {"price_id": "openai/gpt-5.4-mini@2020-01-01"},
        {"price_id": "nonsense"},
        {"pricing": "free"},
        {"service_tier": "flex"},
    ],
    ids=lambda values: "-".join(f"{name}-{value}" for name, value in values.items()),
)
async def test_tampered_receipt_is_found(process: LedgerHarness, values: dict[str, Any]) -> None:
    store(process, *(make_priced(request_id=f"req_{number}") for number in range(3)))
    assert run(process)[1] == []
    tamper(process, "req_1", **values)
    recomputer, [difference] = run(process)
    assert difference.request_id == "req_1"
    assert difference.recomputed_nano != difference.cost_nano
    assert (difference.problem is None) == (difference.recomputed_nano is not None)
    assert (recomputer.totals.receipts, recomputer.totals.differences) == (3, 1)


async def test_calls_without_a_known_usage_cost_their_hold(process: LedgerHarness) -> None:
    charged = make_priced(managed=True)
    whole = msgspec.structs.replace(charged, usage=None, cost_nano=5_000)
    for number, changes in enumerate(
        [
            {"outcome": "unknown"},
            {"pricing": "implausible", "price_id": None},
            {"pricing": "unpriced", "price_id": None},
        ]
    ):
        hold = await process.ledger.hold(make_hold(f"req_{number}", 5_000))
        receipt = msgspec.structs.replace(whole, request_id=f"req_{number}", **changes)
        await process.ledger.record(receipt, hold)
    recomputer, differences = run(process)
    assert differences == []
    assert recomputer.totals.by_basis == {"hold": 3}
    tamper(process, "req_2", cost_nano=4_999)
    assert [each.recomputed_nano for each in run(process)[1]] == [5_000]


async def test_range_is_recomputed_a_few_at_a_time(
    process: LedgerHarness, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(recomputation, "ROWS_AT_ONCE", 4)
    store(
        process,
        *(
            make_priced(request_id=f"req_{n}", created_at=NOVEMBER + n // 6, organization_id=owner)
            for owner in (ORG, "org_2")
            for n in range(100 if owner == ORG else 10, 118 if owner == ORG else 28)
        ),
    )
    for request_id in ("req_100", "req_117", "req_20"):
        tamper(process, request_id, cost_nano=0)
    recomputer, differences = run(process)
    assert [each.request_id for each in differences] == ["req_100", "req_117", "req_20"]
    assert recomputer.totals.receipts == 36
    recomputer, differences = run(process, since=NOVEMBER + 17, until=NOVEMBER + 19)
    assert (recomputer.totals.receipts, len(differences)) == (12, 0)


def of(receipt: Receipt, *, held: int | None = None) -> Recomputation:
    price = find_price()
    return recompute(receipt, lambda name: price if name == price.id else None, lambda _: held)


TOKENS = st.integers(0, 10**6)


@given(TOKENS, TOKENS, TOKENS)
def test_every_priced_usage_is_recomputed_to_the_nano_dollar(
    fresh: int, cached: int, out: int
) -> None:
    usage = Usage(input_tokens=fresh + cached, cached_tokens=cached, output_tokens=out)
    receipt = make_priced(usage)
    found = of(receipt)
    assert found.matches(receipt)
    assert not found.matches(msgspec.structs.replace(receipt, cost_nano=receipt.cost_nano + 1))


def test_part_without_a_fee_is_listed_and_costs_nothing() -> None:
    whole = make_priced()
    assert whole.usage is not None
    usage = msgspec.structs.replace(whole.usage, tool_calls={"future": 2})
    receipt = msgspec.structs.replace(whole, usage=usage, pricing="partial")
    found = of(receipt)
    assert found.matches(receipt)
    assert found.itemization is not None
    last = found.itemization.items[-1]
    assert (last.name, last.quantity, last.rate_nano) == ("tool_calls.future", 2, None)


def test_tokens_without_a_rate_cost_the_highest_one_within_the_hold() -> None:
    price = find_price()
    usage = Usage(input_tokens=1_000, input_audio_tokens=10)
    bound = price.bound(1_000, 0, None)
    assert bound is not None
    reason = f"no rate for it in {price.id}"
    charged = msgspec.structs.replace(
        make_priced(), managed=True, usage=usage, pricing="unpriced", unpriced_reason=reason
    )
    for held, cost in ((10**9, bound), (bound - 1, bound - 1), (None, 0)):
        found = of(msgspec.structs.replace(charged, price_id=None, cost_nano=cost), held=held)
        assert found.basis == "highest_rates"
        assert found.itemization is not None
        assert found.itemization.cost_nano == cost


def test_call_on_an_own_credential_without_a_price_costs_nothing() -> None:
    receipt = msgspec.structs.replace(make_priced(), pricing="unpriced", usage=None, cost_nano=0)
    assert of(receipt).matches(receipt)
    managed = msgspec.structs.replace(receipt, managed=True)
    assert not of(managed).matches(managed)
    assert of(managed).problem
