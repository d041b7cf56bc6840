"""Invoices as the platform API writes them."""

from __future__ import annotations

import datetime

import msgspec

from headgate.api.schemas.fields import to_datetime, to_optional_datetime
from headgate.api.schemas.wallet import to_dollars
from headgate.payments.model.invoice import StoredInvoice


class InvoicePartyResponse(msgspec.Struct):
    """Who issues an invoice, or whom it is for."""

    name: str
    address: str
    tax_id: str


class InvoiceLineResponse(msgspec.Struct):
    """A line of an invoice."""

    description: str
    amount: str


class InvoiceResponse(msgspec.Struct, kw_only=True):
    """An invoice, which never changes."""

    id: str
    number: str
    kind: str
    status: str
    currency: str
    total: str
    reference: str
    corrects: str | None
    issued_at: datetime.datetime
    paid_at: datetime.datetime | None
    issuer: InvoicePartyResponse
    customer: InvoicePartyResponse
    lines: list[InvoiceLineResponse]
    note: str


class InvoicePage(msgspec.Struct):
    """A page of invoices, newest first."""

    invoices: list[InvoiceResponse]
    next_cursor: str | None


def to_invoice_response(stored: StoredInvoice) -> InvoiceResponse:
    invoice = stored.invoice
    return InvoiceResponse(
        id=invoice.id,
        number=invoice.number,
        kind=invoice.kind,
        status="open" if stored.paid_at is None else "paid",
        currency=invoice.currency,
        total=to_dollars(invoice.total_nano),
        reference=invoice.reference,
        corrects=invoice.corrects,
        issued_at=to_datetime(invoice.issued_at),
        paid_at=to_optional_datetime(stored.paid_at),
        issuer=InvoicePartyResponse(*msgspec.structs.astuple(invoice.issuer)),
        customer=InvoicePartyResponse(*msgspec.structs.astuple(invoice.customer)),
        lines=[
            InvoiceLineResponse(line.description, to_dollars(line.amount_nano))
            for line in invoice.lines
        ],
        note=invoice.note,
    )
