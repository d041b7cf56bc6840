"""Background jobs of billing."""

from __future__ import annotations

import asyncio
from collections import Counter
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
BACKGROUND_INTERVAL_SECONDS = 1.0
ASKED_AT_ONCE = 16
ASKED_OF_ORGANIZATION = 4

log = structlog.get_logger(__name__)


async def resolve_expired_holds(ledger: Ledger) -> int:
    """Settle the calls whose hold has expired, and return how many. Run every
    `EXPIRY_INTERVAL_SECONDS`."""
    return await ledger.resolve_expired()


async def recover(ledger: Ledger) -> Sequence[Receipt]:
    """Record the receipts that waited for the database, and return them. Run every
    `RECOVERY_INTERVAL_SECONDS`."""
    return await ledger.recover()


class BackgroundQuestions:
    """Ask providers for the responses that are due, and settle those that have ended.

    A provider that does not answer occupies its own organization's places, and no others'.
    """

    def __init__(self, stored: BackgroundStore, calls: BackgroundCalls) -> None:
        self._stored = stored
        self._calls = calls
        self._asking: dict[asyncio.Task[None], str] = {}
        """The questions on their way, each with its organization."""

    async def run(self) -> int:
        """Ask until nothing is due, or no place is free; return how many were asked. Run every
        `BACKGROUND_INTERVAL_SECONDS`."""
        asked = 0
        while due := await self._take():
            for each in due:
                task = asyncio.create_task(self._ask(each))
                self._asking[task] = each.response.receipt.organization_id
                task.add_done_callback(self._forget)
            asked += len(due)
            # Whoever does not answer must not hold up what else is due.
            await asyncio.wait(
                self._asking,
                timeout=BACKGROUND_INTERVAL_SECONDS,
                return_when=asyncio.FIRST_COMPLETED,
            )
        return asked

    async def wait(self) -> None:
        """Wait for the questions that are on their way."""
        while self._asking:
            await asyncio.wait(self._asking)

    async def _take(self) -> list[DueResponse]:
        places = ASKED_AT_ONCE - len(self._asking)
        if places <= 0:
            return []
        busy = Counter(self._asking.values())
        full = [name for name, asked in busy.items() if asked >= ASKED_OF_ORGANIZATION]
        return await self._stored.take_due(
            rows_max=places, rows_of_organization_max=ASKED_OF_ORGANIZATION, without=full
        )

    async def _ask(self, due: DueResponse) -> None:
        try:
            if await self._calls.ask(due.response):
                return
            if due.is_overdue:
                await self._calls.give_up(due.response, "background_expired")
            else:
                await self._stored.plan_next(due)
        except HeadgateError as error:
            # It is asked for again when its lease has expired.
            request_id = due.response.receipt.request_id
            log.warning("background.unsettled", request_id=request_id, error=error.code)

    def _forget(self, task: asyncio.Task[None]) -> None:
        del self._asking[task]
        if not task.cancelled() and (fault := task.exception()) is not None:
            log.error("background.fault", exc_info=fault)
