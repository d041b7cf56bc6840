"""Calls with an idempotency key settle as all others do."""

from __future__ import annotations

from pathlib import Path

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


def make_verdict(request_id: str) -> ClaimVerdict:
    return ClaimVerdict(b"c" * 32, request_id, ClaimEnding.FREED)


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
