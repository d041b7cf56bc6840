"""Invoices: what they say, and how they are numbered. All amounts are nano-dollars."""

from __future__ import annotations

from typing import Literal

import msgspec

from headgate.kit.errors import HeadgateError, Kind

InvoiceKind = Literal["payment", "month", "credit_note"]


class InvoiceNotFoundError(HeadgateError):
    """There is no such invoice in this organization.

    List the invoices of the organization, and check the id.
    """

    kind = Kind.MISSING
    code = "not_found"


class Party(msgspec.Struct, frozen=True):
    """Name who issues an invoice, or whom it is for. `address` has one line for each line."""

    name: str
    address: str = ""
    tax_id: str = ""


class InvoiceLine(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a line; for usage, the calls of a project to one model."""

    description: str
    amount_nano: int
    project_id: str = ""
    project: str = ""
    provider: str = ""
    model: str = ""
    calls: int = 0


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """Represent an issued invoice, which never changes.

    `number` counts the invoices of the installation without gaps. `reference` is unique: the
    payment, the month or the refund that it is about. `corrects` is the invoice that a credit note
    corrects. The total of a month is what its receipts cost: `credits_nano` of it were paid by the
    credits of the plan, the rest by the wallet, except for `due_nano`, which were owed when the
    invoice was issued. Times are unix seconds.
    """

    id: str
    organization_id: str
    number: str
    kind: InvoiceKind
    reference: str
    corrects: str | None = None
    currency: str
    total_nano: int
    issued_at: float
    issuer: Party
    customer: Party
    lines: tuple[InvoiceLine, ...]
    month: str = ""
    plan: str = ""
    credits_nano: int = 0
    due_nano: int = 0
    note: str = ""

    @property
    def wallet_nano(self) -> int:
        """Return what the wallet pays of a month: the overage of a plan, all of it without one."""
        return self.total_nano - self.credits_nano if self.kind == "month" else 0


class StoredInvoice(msgspec.Struct, frozen=True):
    """Hold an invoice, and when it was paid; None while it is owed."""

    invoice: Invoice
    paid_at: float | None
