"""Calls with an idempotency key settle as all others do."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest

from headgate.billing.service.claimed_calls import ClaimedCalls
from headgate.kit.claims import ClaimEnding, ClaimVerdict
from headgate.kit.db.claim_store import ClaimStore
from headgate.relay.ports import Budget
from tests.fakes.ledger import ORG, LedgerHarness, make_hold, make_receipt, running_ledger

pytestmark = pytest.mark.anyio

BUDGET = Budget("organization", ORG, 700)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def make_calls(process: LedgerHarness) -> ClaimedCalls:
    return ClaimedCalls(process.ledger, ClaimStore(process.writer, process.clock))


def make_verdict(
    request_id: str, ending: ClaimEnding = ClaimEnding.FREED, *, previous: str = ""
) -> ClaimVerdict:
    return ClaimVerdict(b"c" * 32, request_id, ending, previous=previous)


async def settle(process: LedgerHarness, request_id: str, cost_nano: int, **changes: Any) -> None:
    hold = await process.ledger.hold(make_hold(request_id, 200))
    receipt = msgspec.structs.replace(make_receipt(hold, cost_nano), **changes)
    await process.ledger.record(receipt, hold)


async def repeat(
    process: LedgerHarness, ending: ClaimEnding = ClaimEnding.ANSWERED, cost_nano: int = 150
) -> None:
    """Settle the second run of a key whose first run was `req_1`."""
    hold = await process.ledger.hold(make_hold("req_2", 200))
    outcome = "completed" if ending is ClaimEnding.ANSWERED else "unknown"
    receipt = msgspec.structs.replace(make_receipt(hold, cost_nano), outcome=outcome)
    verdict = make_verdict("req_2", ending, previous="req_1")
    await make_calls(process).record_claimed(receipt, hold, verdict)


async def test_call_without_a_hold_counts_in_a_budget_that_was_set_while_it_ran(
    empty_place: Path | str,
) -> None:
    async with running_ledger(empty_place) as process:
        process.set_budget(BUDGET)
        first = make_hold("req_1", 0, managed=False)
        await process.ledger.record(make_receipt(first, 100), None)
        second = make_hold("req_2", 0, managed=False)
        await make_calls(process).record_claimed(
            make_receipt(second, 40), None, make_verdict("req_2")
        )
        counter = process.read_counter(BUDGET)
        assert counter is not None
        assert counter.used_nano == 140


async def test_lease_of_a_settled_call_is_extended_no_more(empty_place: Path | str) -> None:
    async with running_ledger(empty_place) as process:
        hold = await process.ledger.hold(make_hold("req_1", 200))
        await make_calls(process).record_claimed(
            make_receipt(hold, 150), hold, make_verdict("req_1")
        )
        # Nothing runs, so there is nothing to ask the database for.
        await process.writer.stop()
        assert await process.ledger.extend_leases() == 0


async def test_first_run_costs_nothing_when_the_second_is_answered(
    empty_place: Path | str,
) -> None:
    async with running_ledger(empty_place) as process:
        process.set_budget(BUDGET)
        await settle(process, "req_1", 200, outcome="unknown")
        assert process.read_accounts()["wallet"] == 800
        await repeat(process)
        accounts = process.read_accounts()
        assert (accounts["wallet"], accounts.get("held", 0)) == (850, 0)
        counter = process.read_counter(BUDGET)
        assert counter is not None
        assert (counter.used_nano, counter.held_nano) == (150, 0)
        assert len(process.read_events("request.completed")) == 3


async def test_open_hold_of_a_first_run_that_died_is_released(empty_place: Path | str) -> None:
    async with running_ledger(empty_place) as process:
        hold = await process.ledger.hold(make_hold("req_1", 200))
        await repeat(process)
        assert process.read_accounts()["wallet"] == 850
        # The process that was thought to be dead ends its call after all.
        await process.ledger.record(make_receipt(hold, 90), hold)
        assert process.read_accounts()["wallet"] == 850


async def test_two_runs_without_a_known_outcome_are_charged_once(empty_place: Path | str) -> None:
    async with running_ledger(empty_place) as process:
        await settle(process, "req_1", 200, outcome="unknown")
        await repeat(process, ClaimEnding.UNKNOWN, 180)
        assert process.read_accounts()["wallet"] == 820
        await make_calls(process).waive("req_1", billed_as="req_2")
        assert process.read_accounts()["wallet"] == 820


@pytest.mark.parametrize(
    "first",
    [
        {"outcome": "cancelled", "error_code": "caller_left"},
        {"outcome": "unknown", "managed": False},
    ],
)
async def test_charge_that_is_due_stays(empty_place: Path | str, first: dict[str, Any]) -> None:
    async with running_ledger(empty_place) as process:
        managed = first.get("managed", True)
        hold = await process.ledger.hold(make_hold("req_1", 200, managed=managed))
        receipt = msgspec.structs.replace(make_receipt(hold, 200), **first)
        await process.ledger.record(receipt, hold)
        before = process.read_accounts()["wallet"]
        await repeat(process)
        assert process.read_accounts()["wallet"] == before - 150


async def test_first_run_that_ends_late_is_not_billed_beside_the_second(
    empty_place: Path | str,
) -> None:
    async with running_ledger(empty_place) as process:
        first = await process.ledger.hold(make_hold("req_1", 200))
        second = await process.ledger.hold(make_hold("req_2", 200))
        await process.ledger.record(make_receipt(first, 90), first)
        verdict = make_verdict("req_2", ClaimEnding.ANSWERED, previous="req_1")
        await make_calls(process).record_claimed(make_receipt(second, 150), second, verdict)
        assert process.read_accounts()["wallet"] == 850


async def test_second_run_that_was_refused_waives_nothing(empty_place: Path | str) -> None:
    async with running_ledger(empty_place) as process:
        await settle(process, "req_1", 200, outcome="unknown")
        await repeat(process, ClaimEnding.FREED, 0)
        assert process.read_accounts()["wallet"] == 800
