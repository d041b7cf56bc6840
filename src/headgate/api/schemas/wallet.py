"""Wallets and payments as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from headgate.api.schemas.fields import to_datetime, to_optional_datetime
from headgate.billing.model.transactions import WalletEntry
from headgate.billing.service.plans import BillingState
from headgate.billing.service.wallet import WalletBalance
from headgate.kit.money import NANO_PER_DOLLAR, format_dollars
from headgate.payments.model.order import CURRENCY, NANO_PER_CENT, PaymentOrder, format_cents
from headgate.payments.model.wallet_settings import WalletSettings
from headgate.payments.service.auto_top_ups import AutoTopUpRequest, AutoTopUpState

Cents = Annotated[
    str,
    Meta(
        pattern=r"^(0|[1-9][0-9]{0,6})(\.[0-9]{1,2})?$",
        description="Decimal US dollars with up to 2 decimal places, as a string or a number.",
        examples=["25"],
    ),
]
CentsOrDollars = Cents | Annotated[int, Meta(ge=0, le=9_999_999)]
SignedDollars = Annotated[
    str,
    Meta(
        pattern=r"^-?(0|[1-9][0-9]{0,5})(\.[0-9]{1,9})?$",
        description="Decimal US dollars with up to 9 decimal places; negative ones are debited.",
        examples=["-2.5"],
    ),
]
Reason = Annotated[str, Meta(min_length=1, max_length=500)]
Reference = Annotated[str, Meta(min_length=1, max_length=128, pattern=r"^[\x21-\x7e]+$")]
Lines = Annotated[str, Meta(max_length=500)]
Line = Annotated[str, Meta(max_length=200)]
CursorLimit = Annotated[int, Meta(ge=1, le=500)]
Id = Annotated[str, Meta(min_length=1, max_length=128)]


class EntryQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select changes of the wallet."""

    limit: CursorLimit = 100
    cursor: Annotated[str, Meta(pattern=r"^[0-9]{1,18}$")] | None = None


class IdCursorQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select a page of a list whose cursor is an id."""

    limit: CursorLimit = 100
    cursor: Id | None = None


class TopUpCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A payment to make into the wallet."""

    amount: CentsOrDollars
    currency: Literal["usd"] = "usd"
    save_payment_method: bool = False


class CheckoutLinkCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A payment to make into the wallet, of which only the link is returned."""

    amount: CentsOrDollars = 25


class BillingDetails(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What invoices say of the organization."""

    name: Line = ""
    address: Lines = ""
    tax_id: Line = ""


class WalletUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """New settings of the wallet."""

    billing: BillingDetails


class AutoTopUpSet(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """New settings of the automatic top-up. What is left out stays."""

    enabled: bool | msgspec.UnsetType = msgspec.UNSET
    threshold: CentsOrDollars | msgspec.UnsetType = msgspec.UNSET
    amount: CentsOrDollars | msgspec.UnsetType = msgspec.UNSET
    monthly_maximum: CentsOrDollars | msgspec.UnsetType | None = msgspec.UNSET


class AdjustmentCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A correction of a wallet by the operator."""

    amount: SignedDollars
    reason: Reason
    reference: Reference
    invoice_id: Id | None = None


class RefundCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A payment to give back. Without an amount, all that is left of it."""

    payment_id: Id
    amount: Cents | None = None
    reason: Reason


class AutoTopUpResponse(msgspec.Struct, kw_only=True):
    """When and how much is charged to the saved payment method."""

    organization_id: str
    enabled: bool
    threshold: str
    amount: str
    monthly_maximum: str | None
    charged_this_month: str
    currency: str
    has_payment_method: bool
    failures: int
    last_failure: str | None
    retry_at: datetime.datetime | None
    version: int


class WalletCredits(msgspec.Struct, kw_only=True):
    """The monthly credits of the organization's plan, in US dollars, which pay before the wallet.
    With `overage`, the wallet pays what exceeds them."""

    plan: str | None
    granted: str
    remaining: str
    overage: bool
    resets_at: datetime.datetime


class WalletResponse(msgspec.Struct, kw_only=True):
    """The wallet of an organization, in decimal US dollars."""

    organization_id: str
    currency: str
    available: str
    held: str
    debt: str
    credits: WalletCredits
    billing: BillingDetails
    version: int


class WalletEntryResponse(msgspec.Struct):
    """A change of the wallet."""

    id: str
    kind: str
    amount: str
    transaction_id: str
    request_id: str | None
    reference: str | None
    created_at: datetime.datetime


class WalletEntryPage(msgspec.Struct):
    """A page of changes of the wallet, newest first."""

    entries: list[WalletEntryResponse]
    next_cursor: str | None


class PaymentResponse(msgspec.Struct, kw_only=True):
    """A payment into the wallet, with the page on which it is paid."""

    id: str
    kind: str
    amount: str
    currency: str
    status: str
    session_id: str | None
    url: str | None
    failure: str | None
    refunded: str
    disputed: str
    created_at: datetime.datetime
    paid_at: datetime.datetime | None


class PaymentPage(msgspec.Struct):
    """A page of payments, newest first."""

    payments: list[PaymentResponse]
    next_cursor: str | None


class LinkResponse(msgspec.Struct):
    """The address of a page of the payment provider."""

    url: str


class AdjustmentResponse(msgspec.Struct):
    """An adjustment, and what the wallet has then. `created` is false for a repetition."""

    created: bool
    reference: str
    available: str
    debt: str


class PaymentNoticeResponse(msgspec.Struct):
    """What was done with a message of the payment provider."""

    outcome: str


def to_dollars(nano: int) -> str:
    """Format nano-dollars as dollars, without zeros after the second decimal place."""
    whole, _, places = format_dollars(nano).partition(".")
    return f"{whole}.{places[:2]}{places[2:].rstrip('0')}"


def to_wallet_response(
    balance: WalletBalance, settings: WalletSettings, state: BillingState
) -> WalletResponse:
    subscription, plan = state.subscription, state.plan
    return WalletResponse(
        organization_id=settings.organization_id,
        currency="usd",
        available=to_dollars(balance.available_nano),
        held=to_dollars(balance.held_nano),
        debt=to_dollars(balance.debt_nano),
        credits=WalletCredits(
            plan=None if plan is None else plan.id,
            granted=to_dollars(state.credits_nano),
            remaining=to_dollars(state.remaining_nano),
            # Without a plan, the wallet pays everything.
            overage=plan is None or (plan.overage and bool(subscription and subscription.overage)),
            resets_at=to_datetime(state.resets_at),
        ),
        billing=BillingDetails(
            name=settings.billing_name,
            address=settings.billing_address,
            tax_id=settings.tax_id,
        ),
        version=settings.version,
    )


def to_entry_response(entry: WalletEntry) -> WalletEntryResponse:
    return WalletEntryResponse(
        id=str(entry.number),
        kind=entry.kind,
        amount=to_dollars(entry.amount_nano),
        transaction_id=entry.transaction_id,
        request_id=entry.request_id or None,
        reference=entry.reference or None,
        created_at=to_datetime(entry.created_at),
    )


def to_payment_response(order: PaymentOrder) -> PaymentResponse:
    is_open = order.status == "pending"
    return PaymentResponse(
        id=order.id,
        kind=order.kind,
        amount=format_cents(order.amount_cents),
        currency=order.currency,
        status=order.status,
        session_id=order.session_id,
        url=order.url if is_open else None,
        failure=order.failure,
        refunded=format_cents(order.refunded_cents),
        disputed=format_cents(order.disputed_cents),
        created_at=to_datetime(order.created_at),
        paid_at=to_optional_datetime(order.paid_at),
    )


def to_auto_top_up_request(wanted: AutoTopUpSet) -> AutoTopUpRequest:
    maximum = wanted.monthly_maximum
    return AutoTopUpRequest(
        enabled=None if wanted.enabled is msgspec.UNSET else wanted.enabled,
        threshold_nano=_to_optional_cents(wanted.threshold, NANO_PER_CENT),
        amount_cents=_to_optional_cents(wanted.amount),
        month_cents=None if maximum is None else _to_optional_cents(maximum),
        has_maximum=maximum is not msgspec.UNSET,
    )


def _to_optional_cents(amount: str | int | msgspec.UnsetType, factor: int = 1) -> int | None:
    """Return an amount that the schema has checked in cents, times a factor."""
    if amount is msgspec.UNSET:
        return None
    whole, _, places = str(amount).partition(".")
    return (int(whole) * 100 + int(places.ljust(2, "0") or 0)) * factor


def to_auto_top_up_response(state: AutoTopUpState) -> AutoTopUpResponse:
    settings = state.settings
    maximum = settings.month_cents
    return AutoTopUpResponse(
        organization_id=settings.organization_id,
        enabled=settings.enabled,
        threshold=to_dollars(settings.threshold_nano),
        amount=format_cents(settings.amount_cents),
        monthly_maximum=None if maximum is None else format_cents(maximum),
        charged_this_month=format_cents(state.charged_cents),
        currency=CURRENCY,
        has_payment_method=settings.payment_method_id is not None,
        failures=settings.failures,
        last_failure=settings.failure,
        retry_at=to_optional_datetime(settings.retry_at or None),
        version=settings.version,
    )


def to_nano(dollars: str) -> int:
    """Return a signed amount that the schema has checked in nano-dollars."""
    whole, _, places = dollars.removeprefix("-").partition(".")
    nano = int(whole) * NANO_PER_DOLLAR + int(places.ljust(9, "0") or 0)
    return -nano if dollars.startswith("-") else nano
