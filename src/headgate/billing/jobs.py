"""Background jobs of billing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import structlog

from headgate.billing.service.background import BackgroundStore, DueResponse
from headgate.billing.service.ledger import Ledger
from headgate.kit.errors import HeadgateError
from headgate.relay.background import BackgroundCalls
from headgate.relay.ports import Receipt

EXPIRY_INTERVAL_SECONDS = 30.0
RECOVERY_INTERVAL_SECONDS = 0.5
EXTENSION_INTERVAL_SECONDS = 20.0
"""A third of a lease, so that two runs may fail."""
RECOUNT_INTERVAL_SECONDS = 3.0
CLOCK_INTERVAL_SECONDS = 60.0
CREDITS_INTERVAL_SECONDS = 3600.0
RAISE_INTERVAL_SECONDS = 60.0
BACKGROUND_INTERVAL_SECONDS = 1.0

log = structlog.get_logger(__name__)


async def resolve_expired_holds(ledger: Ledger) -> int:
    """Settle the calls whose hold has expired, and return how many. Run every
    `EXPIRY_INTERVAL_SECONDS`."""
    return await ledger.resolve_expired()


async def recover(ledger: Ledger) -> Sequence[Receipt]:
    """Record the receipts that waited for the database, and return them. Run every
    `RECOVERY_INTERVAL_SECONDS`."""
    return await ledger.recover()


async def settle_background(stored: BackgroundStore, calls: BackgroundCalls) -> int:
    """Ask providers for the responses that are due, and settle those that have ended. Return how
    many were due. Run every `BACKGROUND_INTERVAL_SECONDS`."""
    asked = 0
    while due := await stored.take_due():
        await asyncio.gather(*(_settle_due(stored, calls, each) for each in due))
        asked += len(due)
    return asked


async def _settle_due(stored: BackgroundStore, calls: BackgroundCalls, due: DueResponse) -> None:
    try:
        if await calls.ask(due.response):
            return
        if due.is_overdue:
            await calls.give_up(due.response, "background_expired")
        else:
            await stored.plan_next(due)
    except HeadgateError as error:
        # One must not hide the others. It is asked for again when its lease has expired.
        request_id = due.response.receipt.request_id
        log.warning("background.unsettled", request_id=request_id, error=error.code)
