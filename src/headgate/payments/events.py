"""The events that payments publish in the outbox."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class WalletRecharged(msgspec.Struct, frozen=True, tag_field="event", tag="wallet.recharged"):
    """Announce that a payment was credited. Amounts are nano-dollars. `kind` is `checkout` or
    `automatic`."""

    type: ClassVar[str] = "wallet.recharged"

    organization_id: str
    payment_id: str
    kind: str
    amount_nano: int
    currency: str
    available_nano: int
    debt_nano: int
    created_at: float


class InvoicePaid(msgspec.Struct, frozen=True, tag_field="event", tag="invoice.paid"):
    """Announce that an invoice is paid. `total_nano` is its total, and `month` that
    of its usage (`2026-11`, empty for a payment)."""

    type: ClassVar[str] = "invoice.paid"

    organization_id: str
    invoice_id: str
    number: str
    kind: str
    month: str
    total_nano: int
    currency: str
    paid_at: float


class TopUpFailed(msgspec.Struct, frozen=True, tag_field="event", tag="wallet.top_up_failed"):
    """Announce that an automatic top-up was declined, or is not made since its monthly maximum is
    reached (`code` is `declined` or `monthly_maximum_reached`).

    It is tried again at `retry_at`; with `enabled` false, not before somebody enables it again.
    """

    type: ClassVar[str] = "wallet.top_up_failed"

    organization_id: str
    payment_id: str | None
    amount_nano: int
    currency: str
    code: str
    reason: str
    failures: int
    enabled: bool
    retry_at: float | None
    created_at: float
