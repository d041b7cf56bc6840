"""Charge automatic top-ups to saved payment methods, each exactly once.

The order is committed before the provider is asked, and a payment of the provider can be paid only
once. So a process that dies at any moment leaves an order that any process continues.
"""

from __future__ import annotations

import asyncio

import msgspec
import sqlalchemy as sa
import structlog

from headgate.audit.model import SYSTEM
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError
from headgate.kit.failpoint import failpoint
from headgate.payments.model.order import ChargeOutcome, PaymentDeclinedError, PaymentOrder
from headgate.payments.service.auto_top_ups import AutoTopUpService
from headgate.payments.service.checkout import Storage
from headgate.payments.service.orders import OrderService
from headgate.payments.service.provider import PaymentProvider, ProviderLoader
from headgate.payments.store import auto_top_ups as store
from headgate.payments.store import orders as order_store

LEASE_SECONDS = 60.0
"""After so long, an order is continued by whoever sees it. Two at once charge once all the same."""
CHARGES_MAX = 8

log = structlog.get_logger(__name__)


class DueTopUp(msgspec.Struct, frozen=True):
    """Hold a payment to make. `payment_method_id` is None for one that is not needed any more."""

    order: PaymentOrder
    customer_id: str
    payment_method_id: str | None


class AutomaticTopUps:
    """Find the wallets below their threshold, and charge what their owners set."""

    def __init__(
        self,
        storage: Storage,
        orders: OrderService,
        auto_top_ups: AutoTopUpService,
        loader: ProviderLoader,
        clock: Clock,
    ) -> None:
        self._storage = storage
        self._orders = orders
        self._auto_top_ups = auto_top_ups
        self._loader = loader
        self._clock = clock
        self._charging = asyncio.Semaphore(CHARGES_MAX)

    async def run(self) -> None:
        """Continue payments of unknown outcome, and start those that are due."""
        if not self._loader.is_configured:
            return
        pending, due = await self._storage.read(self._find_work)
        if not pending and not due:
            return
        provider = await self._loader.get()
        await asyncio.gather(
            *(self._continue(provider, order) for order in pending),
            *(self._start(provider, organization_id) for organization_id in due),
        )

    def _find_work(self, connection: sa.Connection) -> tuple[list[PaymentOrder], list[str]]:
        pending = store.select_pending(connection, attempted_before=self._find_stale())
        return pending, self._auto_top_ups.find_due(connection)

    def _find_stale(self) -> float:
        return self._clock.now() - LEASE_SECONDS

    async def _start(self, provider: PaymentProvider, organization_id: str) -> None:
        due = await self._storage.write(lambda c: self._order(c, organization_id))
        if due is not None:
            failpoint("top_up_ordered")
            await self._charge(provider, due)

    def _order(self, connection: sa.Connection, organization_id: str) -> DueTopUp | None:
        settings = self._auto_top_ups.find_next(connection, organization_id)
        if settings is None:
            return None
        order = self._orders.create(
            connection, organization_id, settings.amount_cents, kind="automatic", by=SYSTEM
        )
        return self._make_due(connection, order, settings.payment_method_id)

    async def _continue(self, provider: PaymentProvider, order: PaymentOrder) -> None:
        due = await self._storage.write(lambda c: self._claim(c, order))
        if due is not None:
            await self._charge(provider, due)

    def _claim(self, connection: sa.Connection, order: PaymentOrder) -> DueTopUp | None:
        # The order is locked before the wallet, as a message of the provider locks them.
        stale, now = self._find_stale(), self._clock.now()
        if not store.claim_attempt(connection, order.id, attempted_before=stale, now=now):
            return None
        settings = self._auto_top_ups.find_wanted(connection, order.organization_id)
        return self._make_due(
            connection, order, None if settings is None else settings.payment_method_id
        )

    def _make_due(
        self, connection: sa.Connection, order: PaymentOrder, payment_method_id: str | None
    ) -> DueTopUp:
        customer_id = order_store.find_settings(connection, order.organization_id).customer_id
        return DueTopUp(order, customer_id or "", payment_method_id)

    async def _charge(self, provider: PaymentProvider, due: DueTopUp) -> None:
        """Make a payment and record its outcome. What fails on the way is continued later."""
        order = due.order
        try:
            async with self._charging:
                outcome = await self._ask(provider, due)
        except HeadgateError as error:
            log.warning("payments.top_up_delayed", order=order.id, error=error.message)
            return
        failpoint("top_up_charged")
        await self._storage.write(lambda c: self._record(c, order.id, outcome))

    async def _ask(self, provider: PaymentProvider, due: DueTopUp) -> ChargeOutcome | None:
        """Return what became of a payment; None for one that was never made."""
        order = due.order
        if due.payment_method_id is None:
            return None if order.payment_id is None else await provider.cancel_payment(order)
        if order.payment_id is None:
            try:
                payment_id = await provider.create_payment(order, due.customer_id)
            except PaymentDeclinedError as error:
                return ChargeOutcome("failed", error.message, is_final=True)
            order = msgspec.structs.replace(order, payment_id=payment_id)
            # Committed before anything is charged: a repetition charges this payment or none.
            await self._storage.write(
                lambda c: order_store.update_order(c, order.id, payment_id=payment_id)
            )
        return await provider.charge_payment(order, due.payment_method_id)

    def _record(
        self, connection: sa.Connection, order_id: str, outcome: ChargeOutcome | None
    ) -> None:
        order = order_store.lock_order(connection, order_id)
        assert order is not None, "orders are never deleted"
        if outcome is None or outcome.status == "canceled":
            self._orders.expire(connection, order, by=SYSTEM)
        elif outcome.status == "paid":
            self._orders.credit(connection, order, None, by=SYSTEM)
        elif outcome.status == "failed":
            self._orders.fail(connection, order, outcome, by=SYSTEM)
        failpoint("top_up_credited")
