"""Budgets of a key, a project and an organization: held and counted together with the wallet."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import pytest

from headgate.billing.model import budgets as model
from headgate.billing.model.budgets import end_of_month, name_month, start_of_month
from headgate.billing.model.refusals import BudgetExceededError, InsufficientFundsError
from headgate.billing.store import budgets as store
from headgate.kit.errors import Kind
from headgate.relay.ports import Budget, Grant, Hold
from tests.fakes.ledger import (
    MONTH,
    NOVEMBER,
    ORG,
    LedgerHarness,
    make_hold,
    make_receipt,
    running_ledger,
)

pytestmark = pytest.mark.anyio

KEY = Budget("key", "key_1", 300)
PROJECT = Budget("project", "prj_1", 500)
ORGANIZATION = Budget("organization", ORG, 700)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
async def process(empty_place: Path | str) -> AsyncGenerator[LedgerHarness]:
    async with running_ledger(empty_place) as process:
        yield process


def count(process: LedgerHarness, budget: Budget, month: str = MONTH) -> tuple[int, int]:
    counter = process.read_counter(budget, month)
    assert counter is not None
    return counter.used_nano, counter.held_nano


async def test_hold_and_settlement_count_in_every_budget(process: LedgerHarness) -> None:
    hold = await process.ledger.hold(make_hold("req_1", 200, KEY, PROJECT, ORGANIZATION))
    assert (hold.amount_nano, hold.month) == (200, MONTH)
    assert [count(process, each) for each in (KEY, PROJECT, ORGANIZATION)] == [(0, 200)] * 3
    await process.ledger.record(make_receipt(hold, 150), hold)
    assert [count(process, each) for each in (KEY, PROJECT, ORGANIZATION)] == [(150, 0)] * 3
    assert process.read_accounts() == {"wallet": 850, "revenue": 150, "funding": -1_000}


@pytest.mark.parametrize("tight", [0, 1, 2])
async def test_tightest_budget_refuses_and_nothing_is_held_anywhere(
    process: LedgerHarness, tight: int
) -> None:
    limits = [900, 900, 900]
    limits[tight] = 399
    scopes = (("key", "key_1"), ("project", "prj_1"), ("organization", ORG))
    budgets = [Budget(*scope, limit) for scope, limit in zip(scopes, limits, strict=True)]
    with pytest.raises(BudgetExceededError) as refused:
        await process.ledger.hold(make_hold("req_1", 400, *budgets))
    denial = refused.value.denial
    assert (denial.layer, denial.key) == ("quota", f"budget.{scopes[tight][0]}")
    assert (denial.scope_id, denial.limit_nano) == (scopes[tight][1], 399)
    assert (denial.needed_nano, denial.available_nano) == (400, 399)
    assert denial.resets_at == end_of_month(MONTH)
    assert (refused.value.kind, refused.value.code) == (Kind.UNPAID, "budget_exceeded")
    assert refused.value.should_retry is False
    assert [count(process, each) for each in budgets] == [(0, 0)] * 3
    assert process.read_accounts() == {"wallet": 1_000, "funding": -1_000}


async def test_refusal_says_limit_used_held_left_and_reset_time(process: LedgerHarness) -> None:
    first = await process.ledger.hold(make_hold("req_1", 100, KEY))
    await process.ledger.record(make_receipt(first, 90), first)
    await process.ledger.hold(make_hold("req_2", 150, KEY))
    with pytest.raises(BudgetExceededError) as refused:
        await process.ledger.hold(make_hold("req_3", 61, KEY))
    assert refused.value.message == (
        "The monthly budget of the key key_1 does not cover this call, which can cost up to "
        "0.000000061 US dollars: of 0.000000300, 0.000000090 is used, 0.000000150 is held for "
        "running calls and 0.000000060 is left. It is reset at 2026-12-01T00:00:00Z. Raise the "
        "budget, or lower the limit of output tokens."
    )
    denial = refused.value.denial
    assert (denial.used_nano, denial.held_nano, denial.available_nano) == (90, 150, 60)


async def test_wallet_that_refuses_leaves_the_budgets_alone(process: LedgerHarness) -> None:
    wide = Budget("key", "key_1", 9_000)
    with pytest.raises(InsufficientFundsError) as refused:
        await process.ledger.hold(make_hold("req_1", 1_001, wide))
    assert count(process, wide) == (0, 0)
    assert (refused.value.denial.layer, refused.value.denial.scope_id) == ("wallet", ORG)


async def test_call_on_an_own_key_counts_and_moves_no_money(process: LedgerHarness) -> None:
    hold = await process.ledger.hold(make_hold("req_1", 200, KEY, managed=False))
    assert count(process, KEY) == (0, 200)
    with pytest.raises(BudgetExceededError):
        await process.ledger.hold(make_hold("req_2", 101, KEY, managed=False))
    await process.ledger.record(make_receipt(hold, 120), hold)
    assert count(process, KEY) == (120, 0)
    assert process.read_accounts() == {"wallet": 1_000, "funding": -1_000}


async def test_own_key_call_that_never_ends_counts_at_its_hold(process: LedgerHarness) -> None:
    await process.ledger.hold(make_hold("req_1", 200, KEY, managed=False))
    assert await process.ledger.resolve_abandoned() == 1
    assert count(process, KEY) == (200, 0)
    assert process.read_accounts() == {"wallet": 1_000, "funding": -1_000}


async def test_budget_of_managed_calls_counts_those_alone(process: LedgerHarness) -> None:
    managed_only = process.set_budget(Budget("project", "prj_1", 300, managed_only=True))
    grant = Grant("key_1", ORG, "prj_1")
    assert process.budgets.find(grant, managed=True) == (managed_only,)
    assert process.budgets.find(grant, managed=False) == ()
    await process.ledger.record(make_receipt(make_hold("req_1", 0, managed=False), 250), None)
    hold = await process.ledger.hold(make_hold("req_2", 300, managed_only))
    await process.ledger.record(make_receipt(hold, 300), hold)
    with pytest.raises(BudgetExceededError):
        await process.ledger.hold(make_hold("req_3", 1, managed_only))
    counter = process.read_counter(managed_only)
    assert counter is not None
    assert (counter.used_nano, counter.managed_used_nano) == (550, 300)


async def test_grant_lies_between_the_least_and_the_wanted_amount(process: LedgerHarness) -> None:
    """Each takes at most half of what is left, so that all of them get something."""
    holds = [make_hold(f"req_{number}", 800, amount_min_nano=100) for number in range(6)]
    results = await asyncio.gather(
        *[process.ledger.hold(hold) for hold in holds], return_exceptions=True
    )
    granted = [each.amount_nano for each in results if isinstance(each, Hold)]
    assert granted == [500, 250, 125, 100]
    refused = [each for each in results if isinstance(each, InsufficientFundsError)]
    assert [each.denial.needed_nano for each in refused] == [100, 100]
    # One that wants less than half of what is left gets it all.
    small = await process.ledger.hold(make_hold("req_6", 10, amount_min_nano=1))
    assert small.amount_nano == 10


async def test_call_that_states_its_limit_is_fitted_into_all_that_is_left(
    process: LedgerHarness,
) -> None:
    stated = msgspec.structs.replace(
        make_hold("req_1", 1_500, amount_min_nano=16), shares_rest=False
    )
    assert (await process.ledger.hold(stated)).amount_nano == 1_000


async def test_granted_amount_fits_every_budget(process: LedgerHarness) -> None:
    hold = await process.ledger.hold(
        make_hold("req_1", 900, KEY, PROJECT, ORGANIZATION, amount_min_nano=10)
    )
    assert hold.amount_nano == KEY.limit_nano // 2
    await process.ledger.record(make_receipt(hold, 150), hold)
    assert count(process, KEY) == (150, 0)


async def test_call_that_was_cut_off_in_a_fitted_hold_releases_what_was_granted(
    process: LedgerHarness,
) -> None:
    asked = make_hold("req_1", 900, KEY, amount_min_nano=10)
    asyncio.ensure_future(process.ledger.hold(asked)).cancel()
    await process.ledger.record(make_receipt(asked, 0), asked)
    assert count(process, KEY) == (0, 0)
    assert process.read_accounts() == {"wallet": 1_000, "funding": -1_000}


async def test_budget_that_was_set_during_a_call_counts_it_at_its_receipt(
    process: LedgerHarness,
) -> None:
    hold = await process.ledger.hold(make_hold("req_1", 200))
    budget = process.set_budget(Budget("project", "prj_1", 300))
    await process.ledger.record(make_receipt(hold, 150), hold)
    await process.ledger.record(make_receipt(make_hold("req_2", 0, managed=False), 7), None)
    await process.ledger.record(make_receipt(make_hold("req_2", 0, managed=False), 7), None)
    assert count(process, budget) == (157, 0)


async def test_new_budget_starts_from_what_this_month_used(process: LedgerHarness) -> None:
    last_month = start_of_month(MONTH) - 5.0
    for number, (cost, at) in enumerate(((40, NOVEMBER), (2, NOVEMBER), (1_000, last_month))):
        call = make_hold(f"req_{number}", 0, managed=False)
        await process.ledger.record(make_receipt(call, cost, created_at=at), None)
    with pytest.raises(BudgetExceededError) as refused:
        await process.ledger.hold(make_hold("req_9", 300, KEY, managed=False))
    assert refused.value.denial.used_nano == 42


async def test_call_counts_in_the_month_of_its_hold(process: LedgerHarness) -> None:
    """T4, S9: a call over the end of a month counts once, in the month in which it began."""
    december = end_of_month(MONTH)
    process.clock.time = december - 1.0
    hold = await process.ledger.hold(make_hold("req_1", 200, KEY))
    process.clock.time = december + 1.0
    late = await process.ledger.hold(make_hold("req_2", 300, KEY))
    await process.ledger.record(make_receipt(hold, 150, created_at=december + 2.0), hold)
    await process.ledger.record(make_receipt(late, 250, created_at=december + 2.0), late)
    assert count(process, KEY) == (150, 0)
    assert count(process, KEY, name_month(december)) == (250, 0)
    # And a budget that is set later says the same.
    process.set_budget(ORGANIZATION)
    hold = await process.ledger.hold(make_hold("req_3", 1, ORGANIZATION))
    assert count(process, ORGANIZATION, name_month(december)) == (250, 1)


async def test_call_left_behind_for_months_counts_in_the_month_of_its_hold_alone(
    process: LedgerHarness,
) -> None:
    """A server that was off for a while settles what its last process left."""
    process.set_budget(KEY)
    await process.ledger.hold(make_hold("req_1", 200, KEY))
    december = end_of_month(MONTH)
    february = end_of_month(name_month(end_of_month(name_month(december))))
    process.clock.time = february + 10 * 86_400
    assert await process.ledger.resolve_abandoned() == 1
    assert count(process, KEY) == (200, 0)
    # The counter of the new month is made of the receipts of this month.
    await process.ledger.hold(make_hold("req_2", 1, KEY))
    assert count(process, KEY, name_month(february)) == (0, 1)
    process.remove_budget(KEY)
    process.set_budget(KEY)
    counter = process.read_counter(KEY)
    assert counter is not None
    with process.database.transaction() as connection:
        store.sum_receipts(connection, counter)
    assert counter.used_nano == 200


async def test_thresholds_are_announced_once_in_a_month(process: LedgerHarness) -> None:
    budget = Budget("project", "prj_1", 200, thresholds=(50, 80, 100))
    for number, cost in enumerate((99, 1, 30, 70)):
        hold = await process.ledger.hold(make_hold(f"req_{number}", 100 - number * 10, budget))
        await process.ledger.record(make_receipt(hold, cost), hold)
    events = process.read_events("usage.threshold_reached")
    reached = [(each["threshold"], each["used_nano"]) for each in events]
    assert reached == [(50, 100), (80, 200), (100, 200)]
    assert events[0]["request_id"] == "req_1"
    assert (events[0]["scope"], events[0]["month"]) == ("project", MONTH)


async def test_counter_of_a_new_budget_is_summed_again_when_every_process_knows_it(
    process: LedgerHarness,
) -> None:
    budget = process.set_budget(Budget("project", "prj_1", 500))
    hold = await process.ledger.hold(make_hold("req_1", 100, budget))
    other = LedgerHarness(process.database, process.clock)
    # Another process does not know the budget yet.
    await other.ledger.record(make_receipt(make_hold("req_2", 0, managed=False), 30), None)
    await other.writer.stop()
    assert count(process, budget) == (0, 100)
    assert [await process.ledger.recount() for _ in range(3)] == [0, 1, 0]
    assert count(process, budget) == (30, 100)
    await process.ledger.record(make_receipt(hold, 60), hold)
    assert count(process, budget) == (90, 0)


async def test_budget_that_is_removed_and_set_again_misses_no_call(process: LedgerHarness) -> None:
    budget = process.set_budget(Budget("project", "prj_1", 500))
    for number in range(3):
        if number == 1:
            process.remove_budget(budget)
        if number == 2:
            await process.ledger.recount()
            process.set_budget(budget)
        call = make_hold(f"req_{number}", 0, managed=False)
        await process.ledger.record(make_receipt(call, 10), None)
    assert count(process, budget) == (30, 0)


async def test_lease_is_short_and_extended_while_the_call_runs(process: LedgerHarness) -> None:
    long = msgspec.structs.replace(make_hold("req_1", 100, KEY), lease_seconds=3_900.0)
    hold = await process.ledger.hold(long)
    other = LedgerHarness(process.database, process.clock)
    for _ in range(10):
        process.clock.time += 50
        assert await process.ledger.extend_leases() == 1
        assert await other.ledger.resolve_expired() == 0
    await process.ledger.record(make_receipt(hold, 60), hold)
    assert await process.ledger.extend_leases() == 0
    # The holds of a process that died are resolved by another one as soon as the lease is over.
    await process.ledger.hold(msgspec.structs.replace(long, request_id="req_2"))
    process.clock.time += 61
    assert await other.ledger.resolve_expired() == 1
    await other.writer.stop()
    assert count(process, KEY) == (160, 0)


async def test_month_follows_the_clock_of_the_database(process: LedgerHarness) -> None:
    """T3: two processes whose own clocks differ agree on the month."""
    process.ledger.adjust_clock(end_of_month(MONTH) + 1.0)
    hold = await process.ledger.hold(make_hold("req_1", 100, KEY))
    assert hold.month == "2026-12"
    assert await process.ledger.resolve_expired() == 0


def test_months_are_those_of_the_calendar() -> None:
    assert name_month(0.0) == "1970-01"
    assert model.next_month("2026-12") == "2027-01"
    assert model.previous_month("2026-01") == "2025-12"
    assert end_of_month("2026-11") == start_of_month("2026-12") == 1_796_083_200
    assert name_month(1_796_083_199.999) == "2026-11"
