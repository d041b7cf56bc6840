"""Start payments at the provider: commit the intent, ask the provider, record the answer."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

import msgspec
import sqlalchemy as sa

from headgate.accounts.service import AccountService
from headgate.audit.model import Actor
from headgate.kit.errors import HeadgateError, Kind
from headgate.payments.model.order import (
    NoCustomerError,
    PaymentNotice,
    PaymentOrder,
    TopUpAmountError,
    format_cents,
    parse_cents,
)
from headgate.payments.service.orders import EARLY, REFUSED, OrderService, get_order
from headgate.payments.service.provider import ProviderLoader
from headgate.payments.store import orders as store

Result = TypeVar("Result")


class Storage(Protocol):
    """Describe the reads and writes of the database that a service waits for."""

    async def read(self, work: Callable[[sa.Connection], Result]) -> Result: ...

    async def write(self, work: Callable[[sa.Connection], Result]) -> Result: ...


class PaymentMismatchError(HeadgateError):
    """A signed message of the payment provider does not fit its order: amount, currency, payment or
    provider differ. Nothing was credited; the audit log has an entry.

    Compare the payment at the provider with the order, and correct the wallet by an adjustment.
    """

    kind = Kind.UNPROCESSABLE
    code = "payment_mismatch"


class PaymentNotKnownYetError(HeadgateError):
    """A message is about a payment whose success was not told yet; messages come in any order.

    The provider sends the message again; nothing has to be done.
    """

    kind = Kind.CONFLICT
    code = "payment_not_known_yet"


class ClaimReusedError(HeadgateError):
    """The `Idempotency-Key` was used before for another top-up.

    Use a new key for a new top-up.
    """

    kind = Kind.CONFLICT
    code = "idempotency_key_reused"


class TopUp(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a top-up asks for. `claim` identifies a request that may be repeated."""

    amount: str | int
    save_payment_method: bool = False
    claim: str | None = None


class PaymentLimits(msgspec.Struct, frozen=True):
    cents_min: int
    cents_max: int
    return_url: str


class Checkout:
    """Start top-ups, portals and refunds, and take the provider's messages."""

    def __init__(
        self,
        orders: OrderService,
        accounts: AccountService,
        loader: ProviderLoader,
        limits: PaymentLimits,
    ) -> None:
        self._orders = orders
        self._accounts = accounts
        self._loader = loader
        self._limits = limits

    def parse_amount(self, amount: str | int) -> int:
        """Return an amount of dollars in cents. Raise `TopUpAmountError`."""
        limits = self._limits
        return parse_cents(amount, cents_min=limits.cents_min, cents_max=limits.cents_max)

    async def start_top_up(
        self, storage: Storage, organization_id: str, wanted: TopUp, *, by: Actor
    ) -> PaymentOrder:
        """Make an order and open the page on which it is paid.

        A repeated request gets the same order and page. Raise `TopUpAmountError`,
        `PaymentsNotConfiguredError`, `PaymentProviderError` and `ClaimReusedError`.
        """
        cents = self.parse_amount(wanted.amount)
        provider = await self._loader.get()
        order = await storage.write(
            lambda connection: self._orders.create(
                connection,
                organization_id,
                cents,
                save_payment_method=wanted.save_payment_method,
                claim=wanted.claim,
                by=by,
            )
        )
        if (order.amount_cents, order.save_payment_method) != (cents, wanted.save_payment_method):
            raise ClaimReusedError("This Idempotency-Key was used for another top-up.")
        if order.url is not None:
            return order
        customer_id = await self._find_customer(storage, organization_id)
        page = await provider.open_checkout(order, customer_id, self._limits.return_url)
        return await storage.write(
            lambda connection: self._orders.attach_page(connection, order, page)
        )

    async def open_portal(self, storage: Storage, organization_id: str) -> str:
        """Return the URL of the page on which the organization changes methods of payment. Raise
        `NoCustomerError` for who never paid."""
        provider = await self._loader.get()
        settings = await storage.read(lambda c: store.find_settings(c, organization_id))
        if settings.customer_id is None:
            raise NoCustomerError("This organization has not paid yet; top up once.")
        return await provider.open_portal(settings.customer_id, self._limits.return_url)

    async def _find_customer(self, storage: Storage, organization_id: str) -> str:
        settings = await storage.read(lambda c: store.find_settings(c, organization_id))
        if settings.customer_id is not None:
            return settings.customer_id
        provider = await self._loader.get()
        organization = await storage.read(
            lambda c: self._accounts.get_organization(c, organization_id)
        )
        customer_id = await provider.create_customer(organization_id, organization.name)

        def save(connection: sa.Connection) -> None:
            store.update_settings(connection, organization_id, customer_id=customer_id)

        await storage.write(save)
        return customer_id

    async def refund(
        self,
        storage: Storage,
        organization_id: str,
        order_id: str,
        *,
        amount: str | int | None,
        reason: str,
        by: Actor,
    ) -> PaymentOrder:
        """Give back a part of a payment (None: all that is left), and debit the wallet by it.

        The provider repeats a refund only for a new amount given back, so a crash in between leads
        to none twice. Raise `PaymentOrderNotFoundError`, `TopUpAmountError`, `PaymentDeclinedError`
        and `PaymentProviderError`.
        """
        provider = await self._loader.get()
        order = await storage.read(lambda c: get_order(c, organization_id, order_id))
        left = order.amount_cents - order.refunded_cents - order.disputed_cents
        if order.status != "paid" or left <= 0:
            raise TopUpAmountError(
                "Nothing of this payment can be refunded: it is not paid, or was given back.",
                param="payment_id",
            )
        cents = left if amount is None else parse_cents(amount, cents_min=1, cents_max=left)
        total = order.refunded_cents + cents
        made = await provider.refund(order, cents, f"refund:{order.id}:{total}")
        assert made.amount_cents == cents, f"refunded {format_cents(made.amount_cents)}"

        def record(connection: sa.Connection) -> PaymentOrder:
            locked = store.lock_order(connection, order.id)
            assert locked is not None, "orders are never deleted"
            self._orders.take_back(connection, locked, total, by=by, reason=reason)
            return get_order(connection, organization_id, order_id)

        return await storage.write(record)

    async def take_notice(
        self, storage: Storage, raw: bytes, signature: str, *, address: str
    ) -> str:
        """Verify and handle a message of the provider. Return what was done.

        Raise `InvalidPaymentSignatureError`, `PaymentMismatchError`, and `PaymentNotKnownYetError`
        for what must be sent again.
        """
        provider = await self._loader.get()
        notice: PaymentNotice = provider.read_notice(raw, signature)
        outcome = await storage.write(
            lambda connection: self._orders.handle_notice(
                connection, provider.name, notice, address=address
            )
        )
        if outcome == REFUSED:
            raise PaymentMismatchError("The payment does not fit its order. Nothing was credited.")
        if outcome == EARLY:
            raise PaymentNotKnownYetError(
                "The payment of this message is not known to be paid yet."
            )
        return outcome
