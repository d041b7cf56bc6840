"""Hold, settle, grant and check money in the ledger. All amounts are nano-dollars."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence

import msgspec
import sqlalchemy as sa
import structlog

from headgate.billing.model.ledger import (
    HoldNotFoundError,
    InsufficientFundsError,
    LedgerEntry,
    ReferenceConflictError,
    make_excess_entries,
    make_hold_entries,
    make_settlement_entries,
    make_transaction,
    make_unknown_receipt,
    name_account,
)
from headgate.billing.store import ledger as store
from headgate.kit import outbox
from headgate.kit.clock import Clock
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.failpoint import failpoint
from headgate.metering import store as metering
from headgate.metering.events import RequestCompleted, UsageImplausible
from headgate.relay.ports import Hold, Receipt

MICROSECONDS = 1_000_000
EXPIRED_MAX = 500
DEFERRED_MAX = 10_000
DEFERRED_AT_ONCE = 500

Settled = tuple[Receipt, Hold]

log = structlog.get_logger(__name__)
_encode_event = msgspec.json.Encoder().encode


class DuplicateReceiptError(Exception):
    """A batch holds a receipt that is recorded already; it is done again, one by one."""


class Ledger:
    """Implement the ports `Wallet` and `Settlement` on the queues of the database writer.

    A hold that outlives its lease is settled as `unknown`. The lease is the longer of
    `lease_seconds` and the hold's own `lease_seconds`. `subscribed` tells whether any subscriber
    wants the events of a topic. `now` is the time of the database's clock where several processes
    share it.
    """

    def __init__(
        self,
        writer: Writer,
        clock: Clock,
        *,
        subscribed: Callable[[str], bool],
        lease_seconds: float = 900.0,
        now: float | None = None,
    ) -> None:
        self._writer = writer
        self._clock = clock
        self._subscribed = subscribed
        self._lease_seconds = lease_seconds
        # Holds are not flushed: if a power failure loses one, its call is lost too, before any
        # answer was completed. A settlement completes an answer and is flushed, and so is every
        # hold written before it.
        self._hold_queue = writer.create_queue(
            self._hold_all, durable=False, lock_name=lambda hold: hold.organization_id
        )
        self._receipt_queue = writer.create_queue(self._record_receipts, durable=False)
        self._settlement_queue = writer.create_queue(
            self._record_settled, durable=True, lock_name=lambda settled: settled[1].organization_id
        )
        self._deferred: deque[tuple[Receipt, Hold | None]] = deque()
        # Leases expire by the monotonic clock, so that a change of the system time ends none.
        self._epoch = (clock.now() if now is None else now) - clock.monotonic()

    def hold(self, hold: Hold) -> Awaitable[Hold]:
        """Reserve the amount of a hold. Raise `InsufficientFundsError` or
        StorageUnavailableError."""
        return self._hold_queue.put(hold)

    def record(self, receipt: Receipt, hold: Hold | None) -> Awaitable[None]:
        """Store a receipt and settle its hold, exactly once for each request.

        A cost above the hold is billed too: to the wallet as far as it covers it, the rest to the
        account `overspend`. Raise `StorageUnavailableError`, or `HoldNotFoundError` if there is no
        such hold.
        """
        if hold is None:
            return self._receipt_queue.put(receipt)
        assert hold.request_id == receipt.request_id, "a receipt settles its own hold"
        return self._settlement_queue.put((receipt, hold))

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

    async def resolve_expired(self) -> int:
        """Settle the calls whose lease has expired as `unknown`, billed at their hold. Return
        how many."""
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
        now = self._clock.now()
        errors = [_debit_wallet(connection, hold) for hold in holds]
        results = [error or hold for hold, error in zip(holds, errors, strict=True)]
        taken = [hold for hold, error in zip(holds, errors, strict=True) if error is None]
        entries = [entry for hold in taken for entry in make_hold_entries(hold)]
        store.append_entries(connection, entries, at=int(now * MICROSECONDS))
        # `_debit_wallet` has changed the wallets already; the other sides are added here.
        store.add_balances(connection, [entry for entry in entries if entry.amount_nano > 0])
        leased = [(hold, self._find_lease_end(hold)) for hold in taken]
        store.insert_holds(connection, leased, at=int(now * MICROSECONDS))
        return results

    def _find_lease_end(self, hold: Hold) -> int:
        seconds = max(self._lease_seconds, hold.lease_seconds)
        return int((self._monotonic_now() + seconds) * MICROSECONDS)

    def _record_receipts(
        self, connection: sa.Connection, receipts: Sequence[Receipt]
    ) -> Sequence[None]:
        if self._store_receipts(connection, receipts):
            self._publish(connection, receipts)
        return [None] * len(receipts)

    def _record_settled(
        self, connection: sa.Connection, settled: Sequence[Settled]
    ) -> Sequence[None]:
        receipts = [receipt for receipt, _ in settled]
        if self._store_receipts(connection, receipts):
            failpoint("mid_settlement")
            _settle_holds(connection, settled, at=int(self._clock.now() * MICROSECONDS))
            self._publish(connection, receipts)
        return [None] * len(settled)

    def _store_receipts(self, connection: sa.Connection, receipts: Sequence[Receipt]) -> bool:
        """Return whether the receipts are new. Raise `DuplicateReceiptError` for a batch with a
        known one."""
        if metering.insert(connection, receipts) == len(receipts):
            return True
        if len(receipts) > 1:
            raise DuplicateReceiptError
        return False

    def _publish(self, connection: sa.Connection, receipts: Sequence[Receipt]) -> None:
        events: list[RequestCompleted | UsageImplausible] = []
        if self._subscribed(RequestCompleted.type):
            events += map(RequestCompleted, receipts)
        for receipt in receipts:
            if receipt.pricing == "implausible":
                log.warning(
                    "ledger.usage_implausible",
                    request_id=receipt.request_id,
                    reason=receipt.unpriced_reason,
                )
                # The operator must decide about money of the platform, so this event is always
                # stored, even without a subscriber.
                if receipt.managed or self._subscribed(UsageImplausible.type):
                    events.append(UsageImplausible(receipt))
        if events:
            at = int(self._clock.now() * MICROSECONDS)
            outbox.append(connection, [_make_row(event, at) for event in events])


def _make_row(event: RequestCompleted | UsageImplausible, at: int) -> outbox.Row:
    receipt = event.receipt
    event_id = f"{event.type}:{receipt.request_id}"
    return event_id, at, event.type, receipt.organization_id, _encode_event(event)


async def _find_error(work: Awaitable[None]) -> Exception | None:
    try:
        await work
    # The caller judges each error; one must not hide the others.
    except Exception as error:  # noqa: BLE001
        return error
    return None


def _debit_wallet(connection: sa.Connection, hold: Hold) -> InsufficientFundsError | None:
    assert hold.amount_nano >= 0, "a hold is not negative"
    wallet = name_account(hold.organization_id, "wallet")
    if store.debit(connection, wallet, hold.amount_nano):
        return None
    available = store.read_balance(connection, wallet)
    return InsufficientFundsError(needed_nano=hold.amount_nano, available_nano=available)


def _settle_holds(connection: sa.Connection, settled: Sequence[Settled], *, at: int) -> None:
    closings = [
        ("settled" if receipt.cost_nano else "released", hold.request_id, hold.amount_nano)
        for receipt, hold in settled
    ]
    closed = store.close_holds(connection, closings)
    if closed == 0 and len(settled) == 1 and settled[0][0].cost_nano == 0:
        # The hold was refused after its call had been cancelled: nothing was held or is owed.
        return
    if closed < len(closings):
        names = ", ".join(hold.request_id for _, hold in settled)
        raise HoldNotFoundError(
            f"No open hold of the stated amount among: {names}. Nothing was recorded."
        )
    _post(
        connection,
        [
            entry
            for receipt, hold in settled
            for entry in make_settlement_entries(hold, receipt.cost_nano)
        ],
        at=at,
    )
    for receipt, hold in settled:
        if receipt.cost_nano > hold.amount_nano:
            wallet = name_account(hold.organization_id, "wallet")
            available = store.read_balance(connection, wallet, to_change=True)
            excess = make_excess_entries(hold, receipt.cost_nano, wallet_nano=available)
            _post(connection, excess, at=at)
            log.warning("ledger.cost_above_hold", request_id=hold.request_id)


def _post(connection: sa.Connection, entries: Sequence[LedgerEntry], *, at: int) -> None:
    store.append_entries(connection, entries, at=at)
    store.add_balances(connection, entries)


def fund(
    connection: sa.Connection, organization_id: str, *, amount_nano: int, reference: str, now: float
) -> bool:
    """Grant an organization money, once for each reference. Return whether the grant is new.

    Debt (`overspend`) is paid from it first. Raise `ReferenceConflictError` if the reference was
    used for another amount.
    """
    assert amount_nano > 0, "a grant is positive"
    store.open_accounts(connection, organization_id)
    transaction_id = f"fund:{organization_id}:{reference}"
    wallet = name_account(organization_id, "wallet")
    granted = store.read_amount(connection, transaction_id, wallet)
    if granted == amount_nano:
        return False
    if granted is not None:
        raise ReferenceConflictError(
            f"The reference {reference!r} was used for another amount; choose a new one.",
            param="reference",
        )
    entries = make_transaction(
        transaction_id, organization_id, [("funding", -amount_nano), ("wallet", amount_nano)]
    )
    at = int(now * MICROSECONDS)
    _post(connection, entries, at=at)
    owed_nano = -store.read_balance(
        connection, name_account(organization_id, "overspend"), to_change=True
    )
    if owed_nano:
        paid_nano = min(owed_nano, amount_nano)
        repayment = make_transaction(
            f"repay:{organization_id}:{reference}",
            organization_id,
            [("wallet", -paid_nano), ("overspend", paid_nano)],
        )
        _post(connection, repayment, at=at)
    return True


def read_debt(connection: sa.Connection, organization_id: str) -> int:
    """Return the cost above holds that the wallet did not cover. The next grant pays it."""
    return -store.read_balance(connection, name_account(organization_id, "overspend"))


def read_available(connection: sa.Connection, organization_id: str) -> int:
    """Return the amount that an organization can spend now, without what is held for open calls."""
    return store.read_balance(connection, name_account(organization_id, "wallet"))


def count_open_holds(connection: sa.Connection) -> int:
    return store.count_open_holds(connection)


def find_inconsistencies(connection: sa.Connection) -> list[str]:
    """Return every inconsistency of the ledger as one sentence; empty if there is none.

    Every transaction must sum to zero, every balance must be the sum of its entries, and `held`
    must be the sum of the open holds.
    """
    return store.find_inconsistencies(connection)
