"""Invoices: what they say, and how they are numbered. All amounts are nano-dollars."""

from __future__ import annotations

from typing import Literal

import msgspec

from headgate.kit.errors import HeadgateError, Kind

InvoiceKind = Literal["payment", "credit_note"]


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


class InvoiceLine(msgspec.Struct, frozen=True):
    description: str
    amount_nano: int


class Invoice(msgspec.Struct, frozen=True, kw_only=True):
    """Represent an issued invoice, which never changes.

    `number` counts the invoices of the installation without gaps. `reference` is unique: the
    payment or the refund that it is about. `corrects` is the invoice that a credit note
    corrects. Times are unix seconds.
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
    note: str = ""


class StoredInvoice(msgspec.Struct, frozen=True):
    """Hold an invoice, and when it was paid."""

    invoice: Invoice
    paid_at: float | None
