"""Automatic top-ups: when and how much is charged to the saved payment method of a wallet."""

from __future__ import annotations

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.payments.model.order import format_cents

FAILURES_MAX = 5
"""So many declined payments in a row disable automatic top-ups."""
BACKOFF_SECONDS = 900.0
BACKOFF_SECONDS_MAX = 86_400.0


class NoPaymentMethodError(HeadgateError):
    """The organization has no saved payment method, which automatic top-ups are charged to.

    Top up once with `save_payment_method`, and pay on the page of the provider.
    """

    kind = Kind.CONFLICT
    code = "payment_method_missing"


class InvalidAutoTopUpError(HeadgateError):
    """The threshold or the amount of an automatic top-up is outside of the limits, or above its
    monthly maximum.

    Choose an amount between the limits that the message states.
    """

    kind = Kind.INVALID
    code = "invalid_auto_top_up"


class AutoTopUp(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the automatic top-up of an organization.

    When it is enabled and less than `threshold_nano` can be spent, `amount_cents` are charged to
    the saved payment method, at most `month_cents` in a calendar month (None: no limit).
    `method_order_id` is the payment with which the method was saved. After `failures` declined
    payments in a row, the next attempt is at `retry_at` (unix seconds). `capped_month` is the month
    whose maximum is reached.
    """

    organization_id: str
    enabled: bool = False
    threshold_nano: int = 0
    amount_cents: int = 0
    month_cents: int | None = None
    payment_method_id: str | None = None
    method_order_id: str = ""
    failures: int = 0
    failure: str | None = None
    retry_at: float = 0.0
    capped_month: str = ""
    version: int = 1

    def is_ready(self, now: float) -> bool:
        """Return whether a payment may be tried now."""
        return self.enabled and self.payment_method_id is not None and self.retry_at <= now


def check_auto_top_up(wanted: AutoTopUp, *, cents_min: int, cents_max: int) -> None:
    """Raise `NoPaymentMethodError` or `InvalidAutoTopUpError` for what cannot be enabled."""
    if not wanted.enabled:
        return
    if wanted.payment_method_id is None:
        raise NoPaymentMethodError(
            "There is no saved payment method. Top up once with save_payment_method, and pay on "
            "the page of the provider."
        )
    if wanted.threshold_nano <= 0:
        raise InvalidAutoTopUpError("The threshold must be above 0.", param="threshold")
    if not cents_min <= wanted.amount_cents <= cents_max:
        raise InvalidAutoTopUpError(
            f"The amount must be at least {format_cents(cents_min)} and at most "
            f"{format_cents(cents_max)} US dollars.",
            param="amount",
        )
    if wanted.month_cents is not None and wanted.month_cents < wanted.amount_cents:
        raise InvalidAutoTopUpError(
            "The monthly maximum must not be below the amount of one payment.",
            param="monthly_maximum",
        )


def find_backoff_seconds(failures: int) -> float:
    """Return how long the next attempt waits after so many failures in a row."""
    return min(BACKOFF_SECONDS * 2 ** min(failures - 1, 16), BACKOFF_SECONDS_MAX)
