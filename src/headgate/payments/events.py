"""The events that payments publish in the outbox."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class WalletRecharged(msgspec.Struct, frozen=True, tag_field="event", tag="wallet.recharged"):
    """Announce that a payment was credited. Amounts are nano-dollars."""

    type: ClassVar[str] = "wallet.recharged"

    organization_id: str
    payment_id: str
    amount_nano: int
    currency: str
    available_nano: int
    debt_nano: int
    created_at: float


class InvoicePaid(msgspec.Struct, frozen=True, tag_field="event", tag="invoice.paid"):
    """Announce that an invoice is paid. `total_nano` is its total."""

    type: ClassVar[str] = "invoice.paid"

    organization_id: str
    invoice_id: str
    number: str
    kind: str
    total_nano: int
    currency: str
    paid_at: float
