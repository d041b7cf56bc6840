"""Monthly credits of plans: granted at the first hold of a month, used before the wallet."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from headgate.billing.model.budgets import end_of_month
from headgate.billing.model.plans import Plan
from headgate.billing.model.refusals import CreditsExhaustedError, InsufficientFundsError
from headgate.billing.service import reconciliation
from headgate.billing.service.verification import verify
from tests.fakes.ledger import (
    MONTH,
    ORG,
    LedgerHarness,
    make_hold,
    make_receipt,
    running_ledger,
)

pytestmark = pytest.mark.anyio

WITH_OVERAGE = Plan("pro", "Pro", 300, overage=True)
WITHOUT = Plan("free", "Free", 300, overage=False)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def process(empty_place: Path | str) -> AsyncGenerator[LedgerHarness]:
    async with running_ledger(empty_place) as process:
        yield process
        with process.database.reading() as connection:
            assert verify(connection) == []


async def test_credits_pay_first_and_the_wallet_the_rest(process: LedgerHarness) -> None:
    process.plans[ORG] = WITH_OVERAGE
    hold = await process.ledger.hold(make_hold("req_1", 500))
    assert hold.credit_nano == 300
    assert process.read_accounts() == {
        "wallet": 800,
        "held": 500,
        "funding": -1_000,
        "credits_granted": -300,
    }
    await process.ledger.record(make_receipt(hold, 120), hold)
    accounts = process.read_accounts()
    assert (accounts["wallet"], accounts[f"credits:{MONTH}"], accounts["revenue"]) == (
        1_000,
        180,
        120,
    )
    with pytest.raises(InsufficientFundsError) as refused:
        await process.ledger.hold(make_hold("req_2", 1_181))
    assert refused.value.denial.available_nano == 1_180


async def test_without_overage_the_credits_are_the_limit(process: LedgerHarness) -> None:
    process.plans[ORG] = WITHOUT
    hold = await process.ledger.hold(make_hold("req_1", 250))
    with pytest.raises(CreditsExhaustedError) as refused:
        await process.ledger.hold(make_hold("req_2", 51))
    denial = refused.value.denial
    assert (denial.layer, denial.limit_nano, denial.available_nano) == ("credit", 300, 50)
    assert (denial.held_nano, denial.resets_at) == (250, end_of_month(MONTH))
    await process.ledger.record(make_receipt(hold, 250), hold)
    # An own key is not stopped by what the platform sells.
    await process.ledger.record(make_receipt(make_hold("req_3", 0, managed=False), 9_000), None)


async def test_unused_credits_expire_with_their_month(process: LedgerHarness) -> None:
    process.plans[ORG] = WITHOUT
    hold = await process.ledger.hold(make_hold("req_1", 100))
    process.clock.time = end_of_month(MONTH) + 1.0
    await process.ledger.hold(make_hold("req_2", 300))
    assert process.read_accounts()["credits_granted"] == -400
    # What comes back after its month expires with the next grant or sweep.
    await process.ledger.record(make_receipt(hold, 30, created_at=process.clock.time), hold)
    assert process.read_accounts()[f"credits:{MONTH}"] == 70
    process.clock.time += 1.0
    assert await process.ledger.expire_credits() == 70
    assert process.read_accounts()["credits_granted"] == -330


async def test_plan_that_grants_more_from_now_on_adds_the_difference_within_the_month(
    process: LedgerHarness,
) -> None:
    process.plans[ORG] = WITHOUT
    await process.ledger.hold(make_hold("req_1", 250))
    process.plans[ORG] = Plan("max", "Max", 1_000, overage=False)
    assert await process.ledger.raise_credits() == 1
    assert await process.ledger.raise_credits() == 0
    await process.ledger.hold(make_hold("req_2", 750))
    with pytest.raises(CreditsExhaustedError):
        await process.ledger.hold(make_hold("req_3", 1))
    # A smaller plan takes nothing back.
    process.plans[ORG] = WITHOUT
    assert await process.ledger.raise_credits() == 0
    assert process.read_accounts()["credits_granted"] == -1_000


async def test_plan_that_grants_something_follows_one_that_grants_nothing(
    process: LedgerHarness,
) -> None:
    process.plans[ORG] = Plan("none", "None", 0, overage=False)
    with pytest.raises(CreditsExhaustedError):
        await process.ledger.hold(make_hold("req_1", 1))
    await process.ledger.hold(make_hold("req_2", 0))
    process.plans[ORG] = WITHOUT
    assert await process.ledger.raise_credits() == 1
    await process.ledger.hold(make_hold("req_3", 300))


async def test_credits_that_no_call_needed_yet_are_not_raised(process: LedgerHarness) -> None:
    process.plans[ORG] = WITHOUT
    assert await process.ledger.raise_credits() == 0
    assert "credits_granted" not in process.read_accounts()


async def test_call_of_unknown_outcome_is_corrected_once_and_counts(
    process: LedgerHarness,
) -> None:
    process.plans[ORG] = WITH_OVERAGE
    await process.ledger.hold(make_hold("req_1", 500))
    await process.ledger.resolve_abandoned()
    database = process.database
    with database.transaction() as connection:
        (call,) = reconciliation.list_unknown(connection, rows_max=9)
        assert (call.receipt.request_id, call.cost_nano) == ("req_1", 500)
        now = process.clock.now()
        correction = reconciliation.correct(connection, "req_1", 100, at=now)
        assert correction is not None
        assert correction.cost_nano == -400
        assert reconciliation.correct(connection, "req_1", 100, at=now) is None
        assert reconciliation.list_unknown(connection, rows_max=9) == []
    accounts = process.read_accounts()
    assert (accounts["wallet"], accounts[f"credits:{MONTH}"], accounts["revenue"]) == (
        1_000,
        200,
        100,
    )
    # What it costs more is taken from the wallet, and the rest is a debt.
    with database.transaction() as connection:
        reconciliation.correct(connection, "req_1", 1_350, at=now)
    accounts = process.read_accounts()
    assert (accounts["overspend"], accounts["revenue"], "wallet" in accounts) == (
        -250,
        1_350,
        False,
    )
    with pytest.raises(reconciliation.CallNotFoundError), database.transaction() as connection:
        reconciliation.correct(connection, "req_9", 1, at=now)


async def test_verification_names_what_does_not_agree(empty_place: Path | str) -> None:
    async with running_ledger(empty_place) as process:
        hold = await process.ledger.hold(make_hold("req_1", 100))
        await process.ledger.record(make_receipt(hold, 60), hold)
        with process.database.transaction() as connection:
            connection.exec_driver_sql("UPDATE receipts SET cost_nano = 61")
        with process.database.reading() as connection:
            assert verify(connection) == [
                "Call req_1 costs 61 by its receipt, its entries sum to 60."
            ]
        with process.database.transaction() as connection:
            connection.exec_driver_sql("DELETE FROM receipts")
        with process.database.reading() as connection:
            assert verify(connection) == [
                "Call req_1 was billed 60 and has no receipt.",
                "Hold req_1 is settled and its call has no receipt.",
            ]
            assert verify(connection, receipts_since=process.clock.now() + 9) == []
