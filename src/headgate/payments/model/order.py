"""Orders to pay money into a wallet, and what a payment provider says of them."""

from __future__ import annotations

from decimal import Decimal
from typing import Literal

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.money import NANO_PER_DOLLAR, nano_from_dollars

STRIPE = "stripe"
CURRENCY = "usd"
"""The only currency of wallets and list prices."""
NANO_PER_CENT = NANO_PER_DOLLAR // 100

OrderKind = Literal["checkout", "automatic"]
OrderStatus = Literal["pending", "paid", "failed", "expired"]


class PaymentsNotConfiguredError(HeadgateError):
    """This installation takes no payments: it has no account at a payment provider.

    An operator sets `HEADGATE_STRIPE_SECRET_KEY` and `HEADGATE_STRIPE_WEBHOOK_SECRET`.
    """

    kind = Kind.CONFLICT
    code = "payments_not_configured"


class PaymentProviderError(HeadgateError):
    """The payment provider did not answer, or refused the request. Nothing was charged twice.

    Repeat the request with the same `Idempotency-Key`; the log of the server has the details.
    """

    kind = Kind.UPSTREAM
    code = "payment_provider_failed"


class PaymentDeclinedError(HeadgateError):
    """The payment provider or the bank declined the payment. Nothing was charged.

    Pay with another method of payment.
    """

    kind = Kind.UNPAID
    code = "payment_declined"


class TopUpAmountError(HeadgateError):
    """The amount of a top-up is not in whole cents, or outside of the limits of this installation.

    Choose an amount between the limits that the message states.
    """

    kind = Kind.INVALID
    code = "invalid_amount"


class PaymentOrderNotFoundError(HeadgateError):
    """There is no such payment in this organization.

    List the payments of the organization, and check the id.
    """

    kind = Kind.MISSING
    code = "not_found"


class NoCustomerError(HeadgateError):
    """The organization is no customer of the payment provider yet.

    Top up once; then the provider knows it.
    """

    kind = Kind.CONFLICT
    code = "no_customer_yet"


class PaymentOrder(msgspec.Struct, frozen=True, kw_only=True):
    """Represent an order to pay an amount into a wallet.

    Amounts are in cents. `payment_id` is the provider's id of the payment, `session_id` that of its
    checkout page with the address `url`. With `save_payment_method`, the provider keeps the method
    of payment for automatic top-ups. `attempted_at` is when an automatic payment was tried last.
    `refunded_cents` and `disputed_cents` are what went back to the payer. Times are unix seconds.
    """

    id: str
    organization_id: str
    kind: OrderKind = "checkout"
    provider: str
    amount_cents: int
    currency: str
    status: OrderStatus
    save_payment_method: bool = False
    claim: str | None = None
    session_id: str | None = None
    url: str | None = None
    payment_id: str | None = None
    failure: str | None = None
    refunded_cents: int = 0
    disputed_cents: int = 0
    attempted_at: float = 0.0
    created_at: float
    paid_at: float | None = None

    @property
    def amount_nano(self) -> int:
        return self.amount_cents * NANO_PER_CENT


class CheckoutPage(msgspec.Struct, frozen=True):
    """Hold a page of the provider on which an order is paid."""

    session_id: str
    url: str


class ChargeOutcome(msgspec.Struct, frozen=True):
    """Hold what became of a payment without the payer. `failure` is why it failed, and `is_final`
    says that the payment method will not work later either. An open one is decided later."""

    status: Literal["paid", "failed", "open", "canceled"]
    failure: str = ""
    is_final: bool = False


class Refund(msgspec.Struct, frozen=True):
    """Hold a refund that the provider has made."""

    id: str
    amount_cents: int


NoticeKind = Literal[
    "paid",
    "failed",
    "expired",
    "refunded",
    "disputed",
    "dispute_won",
    "method_removed",
    "unrelated",
]


class PaymentNotice(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a verified message of a payment provider.

    `amount_cents` is the amount paid, the sum of all refunds so far, or the amount in dispute.
    `order_id` is the order that the payment was made for, if the message says it; else
    `payment_id` finds it. `payment_method_id` is the method that paid, or that was removed.
    """

    id: str
    type: str
    kind: NoticeKind
    order_id: str = ""
    payment_id: str = ""
    object_id: str = ""
    amount_cents: int = 0
    currency: str = ""
    customer_id: str = ""
    payment_method_id: str = ""
    failure: str = ""
    is_final: bool = False


def parse_cents(dollars: str | int, *, cents_min: int, cents_max: int) -> int:
    """Return an amount of dollars in cents. Raise `TopUpAmountError`."""
    try:
        nano = nano_from_dollars(Decimal(dollars))
    except (ArithmeticError, ValueError) as error:
        raise TopUpAmountError("The amount is a number of dollars.", param="amount") from error
    cents, rest = divmod(nano, NANO_PER_CENT)
    if rest or not cents_min <= cents <= cents_max:
        raise TopUpAmountError(
            f"The amount must be whole cents, at least {format_cents(cents_min)} and at most "
            f"{format_cents(cents_max)} US dollars.",
            param="amount",
        )
    return cents


def format_cents(cents: int) -> str:
    """Format cents as dollars with two decimal places (`12.50`)."""
    sign = "-" if cents < 0 else ""
    return f"{sign}{abs(cents) // 100}.{abs(cents) % 100:02d}"
