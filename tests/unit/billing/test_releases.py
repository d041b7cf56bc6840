"""A call whose target failed gives its hold back, and holds again for the next one."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest
from msgspec.structs import replace

from headgate.billing.model.ledger import HoldNotFoundError
from headgate.billing.model.plans import Plan
from headgate.billing.service.verification import verify
from headgate.relay.ports import Budget
from tests.fakes.ledger import MONTH, ORG, LedgerHarness, make_hold, make_receipt, running_ledger

pytestmark = pytest.mark.anyio

BUDGET = Budget("organization", ORG, 10_000)
PLAN = Plan("pro", "Pro", 300, overage=True)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def process(empty_place: Path | str) -> AsyncGenerator[LedgerHarness]:
    async with running_ledger(empty_place) as process:
        yield process
        with process.database.reading() as connection:
            assert verify(connection) == []


async def test_uncharged_target_gives_everything_back(process: LedgerHarness) -> None:
    process.plans[ORG] = PLAN
    process.set_budget(BUDGET)
    hold = await process.ledger.hold(make_hold("req_1", 500, BUDGET))
    await process.ledger.release(hold, None)
    accounts = process.read_accounts()
    assert (accounts["wallet"], accounts[f"credits:{MONTH}"]) == (1_000, 300)
    assert "held" not in accounts
    counter = process.read_counter(BUDGET)
    assert counter is not None
    assert (counter.held_nano, counter.used_nano) == (0, 0)
    # The next target of the same call holds, and is settled as the call.
    second = await process.ledger.hold(replace(make_hold("req_1", 700, BUDGET), target_index=1))
    await process.ledger.record(make_receipt(second, 650), second)
    accounts = process.read_accounts()
    assert (accounts["wallet"], accounts["revenue"]) == (650, 650)
    counter = process.read_counter(BUDGET)
    assert counter is not None
    assert (counter.held_nano, counter.used_nano) == (0, 650)


async def test_target_that_may_have_been_charged_is_billed_by_its_own_receipt(
    process: LedgerHarness,
) -> None:
    process.set_budget(BUDGET)
    hold = await process.ledger.hold(make_hold("req_1", 500, BUDGET))
    lost = replace(make_receipt(hold, 120), request_id="req_1.a1", outcome="unknown")
    await process.ledger.release(hold, lost)
    counter = process.read_counter(BUDGET)
    assert counter is not None
    assert (counter.held_nano, counter.used_nano) == (0, 120)
    # An own key holds nothing but its share of the budget, and the wallet pays none of it.
    own = replace(make_hold("req_1", 300, BUDGET, managed=False), target_index=1)
    own = await process.ledger.hold(own)
    await process.ledger.record(make_receipt(own, 200), own)
    accounts = process.read_accounts()
    assert (accounts["wallet"], accounts["revenue"]) == (880, 120)
    counter = process.read_counter(BUDGET)
    assert counter is not None
    assert (counter.held_nano, counter.used_nano) == (0, 320)


async def test_cost_above_the_hold_is_billed_too(process: LedgerHarness) -> None:
    hold = await process.ledger.hold(make_hold("req_1", 500))
    await process.ledger.release(hold, replace(make_receipt(hold, 620), request_id="req_1.a1"))
    accounts = process.read_accounts()
    assert (accounts["wallet"], accounts["revenue"]) == (380, 620)


async def test_hold_is_given_back_once(process: LedgerHarness) -> None:
    hold = await process.ledger.hold(make_hold("req_1", 500))
    await process.ledger.release(hold, None)
    with pytest.raises(HoldNotFoundError):
        await process.ledger.release(hold, None)
    assert process.read_accounts()["wallet"] == 1_000
