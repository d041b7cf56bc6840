"""Invoices as the platform API writes them."""

from __future__ import annotations

import datetime

import msgspec

from headgate.api.schemas.fields import to_datetime, to_optional_datetime
from headgate.api.schemas.wallet import CursorLimit, Id, to_dollars
from headgate.payments.model.invoice import InvoiceKind, StoredInvoice


class InvoiceQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select a page of invoices."""

    kind: InvoiceKind | None = None
    limit: CursorLimit = 100
    cursor: Id | None = None


class InvoicePartyResponse(msgspec.Struct):
    """Who issues an invoice, or whom it is for."""

    name: str
    address: str
    tax_id: str


class InvoiceLineResponse(msgspec.Struct):
    """A line of an invoice."""

    description: str
    amount: str
    project_id: str | None
    project: str | None
    provider: str | None
    model: str | None
    calls: int | None


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
    month: str | None
    plan: str | None
    credits: str
    wallet: str
    due: str
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
            InvoiceLineResponse(
                description=line.description,
                amount=to_dollars(line.amount_nano),
                project_id=line.project_id or None,
                project=line.project or None,
                provider=line.provider or None,
                model=line.model or None,
                calls=line.calls if line.project_id else None,
            )
            for line in invoice.lines
        ],
        month=invoice.month or None,
        plan=invoice.plan or None,
        credits=to_dollars(invoice.credits_nano),
        wallet=to_dollars(invoice.wallet_nano),
        due=to_dollars(0 if stored.paid_at else invoice.due_nano),
        note=invoice.note,
    )
