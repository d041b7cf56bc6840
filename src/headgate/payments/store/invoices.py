"""The SQL of invoices."""

from __future__ import annotations

import re
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, declare_unique
from headgate.kit.db.statement import build_insert
from headgate.kit.db.triggers import forbid_changes
from headgate.payments.model.invoice import Invoice, InvoiceKind, StoredInvoice

_decode = msgspec.json.Decoder(Invoice).decode

INVOICES = sa.Table(
    "invoices",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("reference", sa.Text, nullable=False),
    sa.Column("total_nano", sa.BigInteger, nullable=False),
    sa.Column("issued_at", sa.Double, nullable=False),
    sa.Column("document", sa.Text, nullable=False),
    sa.Index("ix_invoices_organization_id", "organization_id", "id"),
)
declare_unique("uq_invoices_number", INVOICES.c.number)
declare_unique("uq_invoices_reference", INVOICES.c.reference)
forbid_changes(INVOICES)

INVOICE_PAYMENTS = sa.Table(
    "invoice_payments",
    METADATA,
    sa.Column("invoice_id", sa.Text, primary_key=True),
    sa.Column("paid_at", sa.Double, nullable=False),
)
forbid_changes(INVOICE_PAYMENTS)

INVOICE_NUMBERS = sa.Table(
    "invoice_numbers",
    METADATA,
    sa.Column("series", sa.Text, primary_key=True),
    sa.Column("last", sa.BigInteger, nullable=False),
)
_INSERT_NUMBERS = build_insert(INVOICE_NUMBERS, ignore_known=True)
_INSERT_PAYMENT = build_insert(INVOICE_PAYMENTS, ignore_known=True)
SERIES = "invoices"


INVOICED_MONTHS = sa.Table(
    "invoiced_months",
    METADATA,
    sa.Column("month", sa.Text, primary_key=True),
    sa.Column("completed_at", sa.Double, nullable=False),
)
_INSERT_MONTH = build_insert(INVOICED_MONTHS, ignore_known=True)


def take_number(connection: sa.Connection) -> int:
    """Return the next number. It is taken when the transaction commits, and free again otherwise;
    other processes wait until then."""
    _INSERT_NUMBERS.run(connection, (SERIES, 0))
    mine = INVOICE_NUMBERS.c.series == SERIES
    connection.execute(
        sa.update(INVOICE_NUMBERS).where(mine).values(last=INVOICE_NUMBERS.c.last + 1)
    )
    return connection.execute(sa.select(INVOICE_NUMBERS.c.last).where(mine)).scalar_one()


def insert_invoice(connection: sa.Connection, invoice: Invoice, *, number: int) -> None:
    connection.execute(
        sa.insert(INVOICES).values(
            id=invoice.id,
            organization_id=invoice.organization_id,
            number=number,
            kind=invoice.kind,
            reference=invoice.reference,
            total_nano=invoice.total_nano,
            issued_at=invoice.issued_at,
            document=msgspec.json.encode(invoice).decode(),
        )
    )


def insert_payment(connection: sa.Connection, invoice_id: str, *, at: float) -> bool:
    """Note that an invoice is paid. Return False if that was noted before."""
    return _INSERT_PAYMENT.run(connection, (invoice_id, at)) == 1


def _select() -> sa.Select[Any, Any]:
    joined = INVOICES.outerjoin(INVOICE_PAYMENTS, INVOICE_PAYMENTS.c.invoice_id == INVOICES.c.id)
    return sa.select(INVOICES.c.document, INVOICE_PAYMENTS.c.paid_at).select_from(joined)


def _to_stored(row: sa.Row[Any, Any]) -> StoredInvoice:
    return StoredInvoice(_decode(row.document), row.paid_at)


def find_invoice(
    connection: sa.Connection, organization_id: str, invoice_id: str
) -> StoredInvoice | None:
    """Return an invoice of an organization by its id, or by its number."""
    named = INVOICES.c.id == invoice_id
    digits = re.search(r"[0-9]{6,18}$", invoice_id, re.ASCII)
    if digits is not None:
        named = sa.or_(named, INVOICES.c.number == int(digits[0]))
    query = _select().where(named, INVOICES.c.organization_id == organization_id)
    found = [_to_stored(row) for row in connection.execute(query)]
    matching = [each for each in found if invoice_id in (each.invoice.id, each.invoice.number)]
    return matching[0] if matching else None


def find_invoice_of(connection: sa.Connection, reference: str) -> StoredInvoice | None:
    row = connection.execute(_select().where(INVOICES.c.reference == reference)).first()
    return None if row is None else _to_stored(row)


def select_invoices(
    connection: sa.Connection,
    organization_id: str,
    *,
    kind: InvoiceKind | None = None,
    before: str | None,
    limit: int,
) -> list[StoredInvoice]:
    """Return invoices, newest first, of those with a smaller id than `before`; only those of a kind
    if one is given."""
    query = (
        _select()
        .where(INVOICES.c.organization_id == organization_id)
        .order_by(INVOICES.c.id.desc())
        .limit(limit)
    )
    if kind is not None:
        query = query.where(INVOICES.c.kind == kind)
    if before is not None:
        query = query.where(INVOICES.c.id < before)
    return [_to_stored(row) for row in connection.execute(query)]


def select_owed(connection: sa.Connection, organization_id: str | None = None) -> list[Invoice]:
    """Return the invoices that are not paid, of one organization or of all."""
    query = _select().where(INVOICE_PAYMENTS.c.paid_at.is_(None), INVOICES.c.kind == "month")
    if organization_id is not None:
        query = query.where(INVOICES.c.organization_id == organization_id)
    return [_to_stored(row).invoice for row in connection.execute(query)]


def insert_month(connection: sa.Connection, month: str, *, at: float) -> None:
    """Note that all invoices of a month are issued."""
    _INSERT_MONTH.run(connection, (month, at))


def find_last_month(connection: sa.Connection) -> str | None:
    """Return the newest month whose invoices are all issued."""
    return connection.execute(sa.select(sa.func.max(INVOICED_MONTHS.c.month))).scalar_one()


def select_references(connection: sa.Connection, *, ending: str) -> set[str]:
    """Return the references of the invoices of months that end with a text."""
    query = sa.select(INVOICES.c.reference).where(
        INVOICES.c.kind == "month", INVOICES.c.reference.endswith(ending, autoescape=True)
    )
    return set(connection.execute(query).scalars())


def has_owed(connection: sa.Connection) -> bool:
    """Return whether there is an invoice that is not paid."""
    query = _select().where(INVOICE_PAYMENTS.c.paid_at.is_(None), INVOICES.c.kind == "month")
    return connection.execute(query.limit(1)).first() is not None
