"""What payments needs of a payment provider, loaded when it is first used."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.lazy import LazyLoader
from headgate.payments.model.order import (
    ChargeOutcome,
    CheckoutPage,
    PaymentNotice,
    PaymentOrder,
    PaymentsNotConfiguredError,
    Refund,
)

PAYMENTS = "payments"
"""The purpose of requests to payment providers, by which the egress guard chooses its rule."""


class InvalidPaymentSignatureError(HeadgateError):
    """A message to the payment callback is not signed with this installation's secret, or is old.

    An operator compares `HEADGATE_STRIPE_WEBHOOK_SECRET` with the secret of the endpoint at Stripe,
    and checks the clock of the server.
    """

    kind = Kind.INVALID
    code = "invalid_signature"


class PaymentProvider(Protocol):
    """Describe a payment provider. All methods raise `PaymentProviderError` where it fails."""

    name: str

    async def create_customer(self, organization_id: str, name: str) -> str:
        """Create the customer of an organization, once. Return its id."""
        ...

    async def open_checkout(
        self, order: PaymentOrder, customer_id: str, return_url: str
    ) -> CheckoutPage:
        """Open the page on which an order is paid; the same order gets the same page again."""
        ...

    async def open_portal(self, customer_id: str, return_url: str) -> str:
        """Return the URL of the page on which a customer changes methods of payment."""
        ...

    async def create_payment(self, order: PaymentOrder, customer_id: str) -> str:
        """Make a payment that is not charged yet, once for each order. Return its id. Raise
        `PaymentDeclinedError`."""
        ...

    async def charge_payment(self, order: PaymentOrder, payment_method_id: str) -> ChargeOutcome:
        """Charge the payment of an order to a saved method without the payer. Nothing is charged
        twice; what was charged before is told."""
        ...

    async def cancel_payment(self, order: PaymentOrder) -> ChargeOutcome:
        """Cancel the payment of an order, or tell that it was charged before."""
        ...

    async def refund(self, order: PaymentOrder, amount_cents: int, reference: str) -> Refund:
        """Give back a part of a payment, once for each reference. Raise `PaymentDeclinedError`."""
        ...

    def read_notice(self, raw: bytes, signature: str) -> PaymentNotice:
        """Verify a message of the provider. Raise `InvalidPaymentSignatureError`."""
        ...


class ProviderLoader:
    """Load the provider at its first use, beside the event loop: its library is large. `load` is
    None where no provider is configured."""

    def __init__(self, load: Callable[[], PaymentProvider] | None) -> None:
        self._loader = None if load is None else LazyLoader(load)

    @property
    def is_configured(self) -> bool:
        return self._loader is not None

    async def get(self) -> PaymentProvider:
        """Return the provider. Raise `PaymentsNotConfiguredError`."""
        if self._loader is None:
            raise PaymentsNotConfiguredError(
                "This installation takes no payments; its operator sets HEADGATE_STRIPE_SECRET_KEY."
            )
        return await self._loader.get()
