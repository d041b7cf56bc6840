"""Remember responses that run in the background, until their work is settled (decision 0033)."""

from __future__ import annotations

from collections.abc import Awaitable, Sequence

import msgspec
import sqlalchemy as sa

from headgate.billing.events import ResponseEnded
from headgate.billing.store import background as store
from headgate.billing.store import ledger as ledger_store
from headgate.kit import outbox
from headgate.kit.clock import Clock
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.db.writer import Writer
from headgate.kit.failpoint import failpoint
from headgate.llm.wire.responses import UNDER_WAY
from headgate.relay.ports import BackgroundReceipt, BackgroundResponse, Hold

MICROSECONDS = 1_000_000
ASK_WAITS = (3.0, 5.0, 10.0, 20.0, 40.0, 60.0)
"""Seconds after each question to a provider until the next one about the same response. Providers
keep a response that is not stored for ten minutes only."""
ASK_LEASE_SECONDS = 60.0
"""How long one process asks for a response alone: longer than any question takes."""
HOLD_LEASE_SECONDS = 600.0
"""How long the hold of a response is leased beyond each question."""
KEPT_SECONDS = 30 * 86_400.0
"""How long a settled response is remembered, so that its owner can read it in the platform's
account: as long as OpenAI stores one."""
DELETED_AT_ONCE = 1_000

_encode = msgspec.json.Encoder().encode


def keep(
    connection: sa.Connection, receipt: BackgroundReceipt, hold: Hold | None, *, now: float
) -> None:
    """Store the response of a call while it runs, and lease its hold."""
    work = receipt.work
    ask_at = now + work.ask_seconds
    response = BackgroundResponse(receipt.to_receipt(), work, hold)
    if not store.insert(connection, response, now=now, ask_at=ask_at):
        store.ask_sooner(connection, receipt.request_id, ask_at=ask_at)
    if hold is not None:
        lease_hold(connection, receipt.request_id, now=now)


def end(
    connection: sa.Connection,
    receipt: BackgroundReceipt,
    hold: Hold | None,
    *,
    now: float,
    read_wanted: outbox.ReadWanted,
) -> bool:
    """Note that a response has ended, and write its event. Return whether this was its end: the
    first time that anybody saw it."""
    work = receipt.work
    if not store.end(connection, receipt.request_id, work.status, now=now):
        response = BackgroundResponse(receipt.to_receipt(), work, hold)
        if not store.insert(connection, response, now=now, ask_at=now, is_settled=True):
            return False
    event = ResponseEnded.of(receipt)
    if (event.type, receipt.organization_id) in read_wanted(connection):
        name = f"{event.type}:{receipt.request_id}"
        at = int(now * MICROSECONDS)
        row = (name, at, event.type, receipt.organization_id, _encode(event))
        outbox.append(connection, [row])
    return True


def is_running(receipt: BackgroundReceipt) -> bool:
    return receipt.work.status in UNDER_WAY


def lease_hold(connection: sa.Connection, request_id: str, *, now: float) -> None:
    until = int((now + HOLD_LEASE_SECONDS) * MICROSECONDS)
    ledger_store.extend_leases(connection, [(until, request_id)])


class DueResponse(msgspec.Struct, frozen=True):
    """Hold a response whose provider is to be asked now.

    `wait_seconds` is the time until the next question, if it still runs. `is_overdue` says that
    nobody waits for its end any longer.
    """

    response: BackgroundResponse
    wait_seconds: float
    is_overdue: bool


class BackgroundStore:
    """Implement the port `BackgroundResponses`, and tell whose provider is to be asked.

    `seconds_max` is the time after which nobody waits for the end of a response.
    """

    def __init__(
        self, database: AsyncDatabase, writer: Writer, clock: Clock, *, seconds_max: float
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._seconds_max = seconds_max

    def find(self, organization_id: str, response_id: str) -> Awaitable[BackgroundResponse | None]:
        return self._database.read(
            lambda connection: store.find(connection, organization_id, response_id)
        )

    async def take_due(
        self, *, rows_max: int, rows_of_organization_max: int, without: Sequence[str] = ()
    ) -> list[DueResponse]:
        """Return responses to ask for, none of the organizations `without`. No other process gets
        them until `plan_next`, or until the lease of this one has expired; their holds are leased,
        too."""
        now = self._clock.now()
        # A server without work of this kind writes nothing.
        if not await self._database.read(lambda connection: store.is_any_due(connection, now=now)):
            return []
        select = store.DueSelection(rows_max, rows_of_organization_max, tuple(without))
        return await self._writer.call(lambda connection: self._take_due(connection, select))

    def plan_next(self, due: DueResponse) -> Awaitable[None]:
        """Let a response that still runs be asked for later, by whatever process."""
        request_id, ask_at = due.response.receipt.request_id, self._clock.now() + due.wait_seconds
        return self._writer.call(
            lambda connection: store.plan_next(connection, [request_id], ask_at=ask_at)
        )

    async def count_running(self) -> int:
        return await self._database.read(store.count_running)

    async def prune(self) -> int:
        """Forget what was settled long ago. Return how many."""
        before, deleted = self._clock.now() - KEPT_SECONDS, 0
        while some := await self._writer.call(
            lambda connection: store.delete_settled(
                connection, before=before, rows_max=DELETED_AT_ONCE
            )
        ):
            deleted += some
        return deleted

    def _take_due(
        self, connection: sa.Connection, selection: store.DueSelection
    ) -> list[DueResponse]:
        now = self._clock.now()
        taken = store.take_due(connection, selection, now=now, leased_until=now + ASK_LEASE_SECONDS)
        for each in taken:
            lease_hold(connection, each.response.receipt.request_id, now=now)
        failpoint("background_taken")
        return [
            DueResponse(
                each.response,
                ASK_WAITS[min(each.asks, len(ASK_WAITS) - 1)],
                now - each.created_at >= self._seconds_max,
            )
            for each in taken
        ]
