"""Hold, settle, grant and check money in the ledger. All amounts are nano-dollars."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Sequence

import msgspec
import sqlalchemy as sa
import structlog

from headgate.billing.events import UsageThresholdReached
from headgate.billing.model.budgets import name_month
from headgate.billing.model.ledger import make_unknown_receipt, name_credits
from headgate.billing.service import background, credits, plans, reconciliation
from headgate.billing.service.budget_index import BudgetIndex
from headgate.billing.service.holds import FindPlan, HoldBatch
from headgate.billing.service.recounts import Recounts
from headgate.billing.service.releases import release_holds
from headgate.billing.service.settlements import Settled, count, list_counting, settle_holds
from headgate.billing.service.transactions import fund, read_available, read_debt
from headgate.billing.store import ledger as store
from headgate.kit import outbox
from headgate.kit.clock import Clock
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.failpoint import failpoint
from headgate.metering import store as metering
from headgate.metering.events import RequestCompleted, UsageImplausible
from headgate.relay.ports import BackgroundReceipt, Hold, Receipt

MICROSECONDS = 1_000_000
LEASE_SECONDS = 60.0
"""How long a hold outlives the process that has its call: a live one extends it."""
SLEW_SECONDS = 1.0
"""How far a look at the database's clock moves the end of leases at most."""
EXPIRED_MAX = 500
DEFERRED_MAX = 10_000
DEFERRED_AT_ONCE = 500

Event = RequestCompleted | UsageImplausible | UsageThresholdReached

log = structlog.get_logger(__name__)
_encode_event = msgspec.json.Encoder().encode


class DuplicateReceiptError(Exception):
    """A batch holds a receipt that is recorded already; it is done again, one by one."""


class Ledger:
    """Implement the ports `Wallet` and `Settlement` on the queues of the database writer.

    A hold that outlives its lease is settled as `unknown`. A lease is short, and extended while the
    call runs, until the longer of `lease_seconds` and the hold's own `lease_seconds` is over.
    `read_wanted` tells which events somebody wants. `now` is the time of the
    database's clock where several processes share it. `budgets` finds the budgets of calls that
    hold nothing for them.
    """

    def __init__(
        self,
        writer: Writer,
        clock: Clock,
        *,
        read_wanted: outbox.ReadWanted = outbox.want_nothing,
        lease_seconds: float = 900.0,
        now: float | None = None,
        budgets: BudgetIndex | None = None,
        find_plan: FindPlan = plans.find_plan,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._read_wanted = read_wanted
        self._lease_seconds = lease_seconds
        self._budgets = budgets or BudgetIndex()
        self._find_plan = find_plan
        self._recounts = Recounts()
        # Holds are not flushed: if a power failure loses one, its call is lost too, before any
        # answer was completed. A settlement completes an answer and is flushed, and so is every
        # hold written before it.
        self._hold_queue = writer.create_queue(
            self._hold_all, durable=False, lock_name=lambda hold: hold.organization_id
        )
        self._extension_queue = writer.create_queue(self._extend_all, durable=False)
        self._receipt_queue = writer.create_queue(self._record_receipts, durable=False)
        self._counted_queue = writer.create_queue(
            self._record_counted, durable=False, lock_name=lambda receipt: receipt.organization_id
        )
        self._settlement_queue = writer.create_queue(
            self._record_settled, durable=True, lock_name=lambda settled: settled[1].organization_id
        )
        self._release_queue = writer.create_queue(
            self._release_all,
            durable=True,
            lock_name=lambda released: released[0].organization_id,
        )
        self._background_queue = writer.create_queue(
            self._record_background, durable=True, lock_name=lambda call: call[0].organization_id
        )
        self._deferred: deque[tuple[Receipt, Hold | None]] = deque()
        # Leases follow the monotonic clock, so that a change of the system time ends none.
        self._is_shared = now is not None
        self._epoch = (clock.now() if now is None else now) - clock.monotonic()
        self._month_epoch = self._epoch
        self._in_flight: dict[str, float] = {}

    def hold(self, hold: Hold) -> Awaitable[Hold]:
        """Reserve the amount of a hold in everything that it counts in, or in nothing. Return the
        hold as it is granted. Raise `HoldRefusedError` or `StorageUnavailableError`."""
        seconds = max(self._lease_seconds, hold.lease_seconds)
        self._in_flight[hold.request_id] = self._monotonic_now() + seconds
        return self._hold_queue.put(hold)

    def release(self, hold: Hold, receipt: Receipt | None) -> Awaitable[None]:
        """Give a hold back whose call goes on with another target, and may hold again.

        `receipt` bills what the failed target may have charged; its id is its own. Raise
        `StorageUnavailableError`, or `HoldNotFoundError` if there is no such hold.
        """
        self.end_lease(hold.request_id)
        return self._release_queue.put((hold, receipt))

    def record(self, receipt: Receipt, hold: Hold | None) -> Awaitable[bool | None]:
        """Store a receipt and settle its hold, exactly once for each request.

        Of a response in the background, keep what is known while it runs, then settle it; return
        whether this was its end.

        A cost above the hold is billed too: to the wallet as far as it covers it, the rest to the
        account `overspend`. Raise `StorageUnavailableError`, or `HoldNotFoundError` if there is no
        such hold.
        """
        if receipt.request_id in self._in_flight:
            self.end_lease(receipt.request_id)
        if type(receipt) is BackgroundReceipt:
            return self._background_queue.put((receipt, hold))
        if hold is None:
            if receipt.organization_id in self._budgets.organizations:
                return self._counted_queue.put(receipt)
            return self._receipt_queue.put(receipt)
        assert hold.request_id == receipt.request_id, "a receipt settles its own hold"
        return self._settlement_queue.put((receipt, hold))

    def end_lease(self, request_id: str) -> None:
        """Extend the lease of a call no more, since its receipt is on its way."""
        self._in_flight.pop(request_id, None)

    def record_in(
        self, connection: sa.Connection, calls: Sequence[tuple[Receipt, Hold | None]]
    ) -> Sequence[bool | None]:
        """Do as `record` in a transaction of the writer, which the caller shares with it. The
        caller calls `end_lease` before, on the event loop."""
        plain = [call for call in calls if not isinstance(call[0], BackgroundReceipt)]
        if receipts := [receipt for receipt, hold in plain if hold is None]:
            self._record_counted(connection, receipts)
        if settled := [(receipt, hold) for receipt, hold in plain if hold is not None]:
            self._record_settled(connection, settled)
        return [
            self._record_work(connection, receipt, hold)
            if isinstance(receipt, BackgroundReceipt)
            else None
            for receipt, hold in calls
        ]

    def waive(self, connection: sa.Connection, request_id: str) -> bool:
        """Charge nothing for a managed call that another run of it is billed for. Return whether
        that changed anything.

        Do so in a transaction of the writer. A hold that is still open is settled first, so that a
        settlement that comes late changes nothing any more. A call on an own key stays as it is:
        its provider may have charged the owner.
        """
        holds = [each for each in store.lock_open_holds(connection, [request_id]) if each.managed]
        now = self._clock.now()
        for hold in holds:
            self._record_settled(connection, [(make_unknown_receipt(hold, created_at=now), hold)])
        call = reconciliation.find_billed(connection, request_id)
        if call is None or not reconciliation.is_waivable(call):
            return False
        correction = reconciliation.correct(connection, request_id, 0, at=self._month_now())
        if correction is None:
            return False
        self._publish(connection, [correction])
        return True

    def check(self) -> None:
        """Raise StorageUnavailableError if the last commit failed."""
        self._writer.health.check()

    def defer(self, receipt: Receipt, hold: Hold | None) -> None:
        """Keep a receipt in memory until `recover` can record it, and log it in any case. If the
        process dies before that, the next process settles the hold as `unknown`."""
        has_room = len(self._deferred) < DEFERRED_MAX
        log.error("ledger.deferred", kept=has_room, receipt=msgspec.to_builtins(receipt))
        if has_room:
            self._deferred.append((receipt, hold))

    @property
    def deferred(self) -> int:
        return len(self._deferred)

    async def recover(self) -> list[Receipt]:
        """Record the deferred receipts and return them. Raise `StorageUnavailableError` if the
        database still refuses.

        With nothing deferred, a commit without content tests whether the database accepts writes
        again.
        """
        recorded: list[Receipt] = []
        while self._deferred:
            some = [
                self._deferred.popleft() for _ in range(min(DEFERRED_AT_ONCE, len(self._deferred)))
            ]
            try:
                recorded += await self._record_late(some)
            except BaseException:
                # Recording a receipt twice changes nothing, so all of them are tried again.
                self._deferred.extendleft(reversed(some))
                raise
        if not self._writer.health.is_healthy:
            await self._writer.probe_commit()
        return recorded

    async def _record_late(self, some: Sequence[tuple[Receipt, Hold | None]]) -> list[Receipt]:
        queued = [self.record(receipt, hold) for receipt, hold in some]
        errors = [await _find_error(each) for each in queued]
        recorded: list[Receipt] = []
        for (receipt, _), error in zip(some, errors, strict=True):
            if isinstance(error, HeadgateError) and error.kind is Kind.UNAVAILABLE:
                raise error
            if error is None:
                if receipt.outcome != "pending":
                    recorded.append(receipt)
            else:
                log.error("ledger.lost", request_id=receipt.request_id, error=str(error))
        return recorded

    def fund(self, organization_id: str, amount_nano: int, *, reference: str) -> Awaitable[bool]:
        return self._writer.call(
            lambda connection: fund(
                connection,
                organization_id,
                amount_nano=amount_nano,
                reference=reference,
                now=self._clock.now(),
            )
        )

    async def extend_leases(self) -> int:
        """Extend the leases of the calls that run in this process. Return how many were open."""
        now = self._monotonic_now()
        self._in_flight = {name: end for name, end in self._in_flight.items() if end > now}
        if not self._in_flight:
            return 0
        ends = [
            (int(min(now + LEASE_SECONDS, end) * MICROSECONDS), name)
            for name, end in self._in_flight.items()
        ]
        return await self._extension_queue.put(ends)

    def adjust_clock(self, now: float) -> None:
        """Take the time of the database's clock: months follow it, leases only in small steps."""
        self._month_epoch = now - self._clock.monotonic()
        if self._is_shared:
            drift = self._month_epoch - self._epoch
            self._epoch += max(-SLEW_SECONDS, min(SLEW_SECONDS, drift))

    async def recount(self) -> int:
        """Sum the counters exactly that began while other processes may not have known of their
        budget: those that waited since the last call of this. Return how many."""
        appeared, removed = self._budgets.take_changes()
        month = name_month(self._month_now())
        return await self._writer.call(
            lambda connection: self._recounts.run(connection, appeared | removed, month=month)
        )

    async def expire_credits(self) -> int:
        """Let the credits of months that are over expire. Return their sum in nano-dollars."""
        now = self._month_now()
        return await self._writer.call(
            lambda connection: credits.expire_all(connection, month=name_month(now), at=now)
        )

    async def raise_credits(self) -> int:
        """Add what plans grant more than they did when the credits of this month were granted: a
        plan may have begun at a time that was set before. Return in how many organizations."""
        month = name_month(self._month_now())
        owners = await self._writer.call(
            lambda connection: store.list_granted(connection, name_credits(month))
        )
        # A transaction each, so that no call waits for all of them.
        return sum([await self._raise_credits(owner, month) for owner in owners])

    async def _raise_credits(self, organization_id: str, month: str) -> bool:
        now = self._month_now()
        return await self._writer.call(
            lambda connection: credits.raise_grant(
                connection,
                organization_id,
                self._find_plan(connection, organization_id, now),
                month=month,
                at=now,
            )
        )

    async def resolve_expired(self) -> int:
        """Settle the calls whose lease has expired as `unknown`, billed at their hold. Return
        how many."""
        await self.extend_leases()
        return await self._resolve(int(self._monotonic_now() * MICROSECONDS))

    async def resolve_abandoned(self) -> int:
        """Settle every open hold as `unknown` if this is the only process. Return how many. If
        other processes are alive, the holds may be theirs, and only expired leases are settled."""
        return await self._resolve(None)

    async def _resolve(self, expired_at: int | None) -> int:
        resolved = 0
        while count := await self._writer.call(lambda c: self._resolve_some(c, expired_at)):
            resolved += count
        if resolved:
            log.warning("ledger.calls_unknown", calls=resolved)
        return resolved

    def _monotonic_now(self) -> float:
        """Return unix seconds that ignore changes of the system clock since this process
        started."""
        return self._epoch + self._clock.monotonic()

    def _month_now(self) -> float:
        """Return unix seconds by the database's clock, as it was last looked at."""
        return self._month_epoch + self._clock.monotonic()

    def _extend_all(
        self, connection: sa.Connection, extensions: Sequence[Sequence[tuple[int, str]]]
    ) -> Sequence[int]:
        return [store.extend_leases(connection, ends) for ends in extensions]

    def _resolve_some(self, connection: sa.Connection, expired_at: int | None) -> int:
        now = self._clock.now()
        holds = store.list_open_holds(
            connection, expired_at=expired_at, rows_max=EXPIRED_MAX, to_close=True
        )
        # After reading the holds: a live process that made one of them is then counted.
        if expired_at is None and not self._writer.is_alone(connection):
            return 0
        if holds:
            unknown = [(make_unknown_receipt(hold, created_at=now), hold) for hold in holds]
            self._record_settled(connection, unknown)
            failpoint("hold_reaper")
        return len(holds)

    def _hold_all(
        self, connection: sa.Connection, holds: Sequence[Hold]
    ) -> Sequence[Hold | Exception]:
        now = self._month_now()
        batch = HoldBatch(
            connection, holds, month=name_month(now), now=now, find_plan=self._find_plan
        )
        results = [batch.decide(hold) for hold in holds]
        leased_at = self._monotonic_now()
        leased = [
            (result, self._find_lease_end(result, leased_at))
            for result in results
            if isinstance(result, Hold)
        ]
        batch.write(leased)
        return results

    def _find_lease_end(self, hold: Hold, leased_at: float) -> int:
        seconds = hold.lease_seconds
        if seconds < LEASE_SECONDS:
            seconds = min(LEASE_SECONDS, max(self._lease_seconds, seconds))
        else:
            seconds = LEASE_SECONDS
        return int((leased_at + seconds) * MICROSECONDS)

    def _record_receipts(
        self, connection: sa.Connection, receipts: Sequence[Receipt]
    ) -> Sequence[None]:
        if self._store_receipts(connection, receipts):
            self._publish(connection, receipts)
        return [None] * len(receipts)

    def _record_counted(
        self, connection: sa.Connection, receipts: Sequence[Receipt]
    ) -> Sequence[None]:
        """Record receipts without holds that count in budgets."""
        if self._store_receipts(connection, receipts):
            reached = self._count(connection, [(receipt, None) for receipt in receipts])
            self._publish(connection, receipts, reached)
        return [None] * len(receipts)

    def _record_settled(
        self, connection: sa.Connection, settled: Sequence[Settled]
    ) -> Sequence[None]:
        receipts = [receipt for receipt, _ in settled]
        if self._store_receipts(connection, receipts):
            failpoint("mid_settlement")
            done = settle_holds(connection, settled, at=int(self._clock.now() * MICROSECONDS))
            self._publish(connection, receipts, self._count(connection, done))
        else:
            self._settle_late(connection, receipts[0])
        return [None] * len(settled)

    def _release_all(
        self, connection: sa.Connection, released: Sequence[tuple[Hold, Receipt | None]]
    ) -> Sequence[None]:
        receipts = [receipt for _, receipt in released if receipt is not None]
        if not receipts or self._store_receipts(connection, receipts):
            at = int(self._clock.now() * MICROSECONDS)
            reached = release_holds(connection, released, self._budgets, at=at)
            self._publish(connection, receipts, reached)
        return [None] * len(released)

    def _record_background(
        self, connection: sa.Connection, calls: Sequence[tuple[BackgroundReceipt, Hold | None]]
    ) -> Sequence[bool | None]:
        return [self._record_work(connection, receipt, hold) for receipt, hold in calls]

    def _record_work(
        self, connection: sa.Connection, call: BackgroundReceipt, hold: Hold | None
    ) -> bool | None:
        """Keep a response that runs, or settle one that has ended. Return whether it was its
        end."""
        now = self._month_now()
        if background.is_running(call):
            background.keep(connection, call, hold, now=now)
            return None
        receipt = call.to_receipt()
        is_end = background.end(connection, call, hold, now=now, read_wanted=self._read_wanted)
        if not is_end:
            # Its receipt may be deleted by now, so that a second one would be new.
            self._settle_late(connection, receipt)
        elif hold is not None:
            self._record_settled(connection, [(receipt, hold)])
        else:
            self._record_counted(connection, [receipt])
        return is_end

    def _settle_late(self, connection: sa.Connection, receipt: Receipt) -> None:
        """Correct the bill of a call that ended after its lease: its cost is known now."""
        known = metering.find(connection, receipt.request_id)
        if known is None or known.outcome != reconciliation.UNKNOWN:
            return
        call = reconciliation.find_billed(connection, receipt.request_id)
        if call is None or call.corrections or receipt.outcome == reconciliation.UNKNOWN:
            return
        correction = reconciliation.correct(
            connection, receipt.request_id, receipt.cost_nano, at=self._month_now()
        )
        if correction is not None:
            log.warning("ledger.settled_late", request_id=receipt.request_id)
            self._publish(connection, [correction])

    def _count(
        self, connection: sa.Connection, calls: Sequence[tuple[Receipt, Hold | None]]
    ) -> Sequence[UsageThresholdReached]:
        month = name_month(self._month_now())
        return count(connection, list_counting(calls, self._budgets, month=month))

    def _store_receipts(self, connection: sa.Connection, receipts: Sequence[Receipt]) -> bool:
        """Return whether the receipts are new. Raise `DuplicateReceiptError` for a batch with a
        known one."""
        if metering.insert(connection, receipts) == len(receipts):
            return True
        if len(receipts) > 1:
            raise DuplicateReceiptError
        return False

    def _publish(
        self,
        connection: sa.Connection,
        receipts: Sequence[Receipt],
        reached: Sequence[UsageThresholdReached] = (),
    ) -> None:
        events: list[Event] = []
        wanted = self._read_wanted(connection)
        if wanted:
            events += [each for each in reached if (each.type, each.organization_id) in wanted]
            events += [
                RequestCompleted(receipt)
                for receipt in receipts
                if (RequestCompleted.type, receipt.organization_id) in wanted
            ]
        for receipt in receipts:
            if receipt.pricing == "implausible":
                log.warning(
                    "ledger.usage_implausible",
                    request_id=receipt.request_id,
                    reason=receipt.unpriced_reason,
                )
                # The operator must decide about money of the platform, so this event is always
                # stored, even without a subscriber.
                if receipt.managed or (UsageImplausible.type, receipt.organization_id) in wanted:
                    events.append(UsageImplausible(receipt))
        if events:
            at = int(self._clock.now() * MICROSECONDS)
            outbox.append(connection, [_make_row(event, at) for event in events])


def _make_row(event: Event, at: int) -> outbox.Row:
    if isinstance(event, UsageThresholdReached):
        return event.id, at, event.type, event.organization_id, _encode_event(event)
    receipt = event.receipt
    event_id = f"{event.type}:{receipt.request_id}"
    return event_id, at, event.type, receipt.organization_id, _encode_event(event)


async def _find_error(work: Awaitable[object]) -> Exception | None:
    try:
        await work
    # The caller judges each error; one must not hide the others.
    except Exception as error:  # noqa: BLE001
        return error
    return None


def count_open_holds(connection: sa.Connection) -> int:
    return store.count_open_holds(connection)


def find_inconsistencies(connection: sa.Connection) -> list[str]:
    """Return every inconsistency of the ledger as one sentence; empty if there is none.

    Every transaction must sum to zero, every balance must be the sum of its entries, and `held`
    must be the sum of the open holds.
    """
    return store.find_inconsistencies(connection)


__all__ = [
    "Ledger",
    "count_open_holds",
    "find_inconsistencies",
    "fund",
    "read_available",
    "read_debt",
]
