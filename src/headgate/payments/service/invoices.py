"""Issue invoices, in the transaction of what they are about, and find them."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.billing.service import wallet
from headgate.kit import outbox
from headgate.kit.clock import Clock
from headgate.kit.db.locks import lock_names
from headgate.kit.failpoint import failpoint
from headgate.kit.ids import IdGenerator
from headgate.payments.events import InvoicePaid
from headgate.payments.model.invoice import (
    Invoice,
    InvoiceKind,
    InvoiceLine,
    InvoiceNotFoundError,
    Party,
    StoredInvoice,
)
from headgate.payments.model.order import CURRENCY, PaymentOrder
from headgate.payments.service.outgoing import publish
from headgate.payments.store import invoices as store
from headgate.payments.store import orders as order_store


class InvoiceDraft(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what an invoice is about, before it has a number."""

    organization_id: str
    organization_name: str
    kind: InvoiceKind
    reference: str
    lines: tuple[InvoiceLine, ...]
    corrects: str | None = None
    month: str = ""
    plan: str = ""
    credits_nano: int = 0
    note: str = ""


class InvoiceService:
    """Issue each invoice once for its reference, with the next number of the installation."""

    def __init__(
        self,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
        *,
        issuer: Party,
        prefix: str,
        read_wanted: outbox.ReadWanted,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._issuer = issuer
        self._prefix = prefix
        self._read_wanted = read_wanted

    def issue(self, connection: sa.Connection, draft: InvoiceDraft, *, by: Actor) -> StoredInvoice:
        """Issue an invoice, or return the one that was issued for the reference."""
        lock_names(connection, [draft.organization_id])
        known = store.find_invoice_of(connection, draft.reference)
        if known is not None:
            return known
        now = self._clock.now()
        number = store.take_number(connection)
        settings = order_store.find_settings(connection, draft.organization_id)
        failpoint("mid_invoice")
        total_nano = sum(line.amount_nano for line in draft.lines)
        invoice = Invoice(
            id=self._ids.make("inv"),
            organization_id=draft.organization_id,
            number=f"{self._prefix}{number:06d}",
            kind=draft.kind,
            reference=draft.reference,
            corrects=draft.corrects,
            currency=CURRENCY,
            total_nano=total_nano,
            issued_at=now,
            issuer=self._issuer,
            customer=Party(
                settings.billing_name or draft.organization_name,
                settings.billing_address,
                settings.tax_id,
            ),
            lines=draft.lines,
            month=draft.month,
            plan=draft.plan,
            credits_nano=draft.credits_nano,
            due_nano=self._find_due(connection, draft, total_nano),
            note=draft.note,
        )
        store.insert_invoice(connection, invoice, number=number)
        changes = {"number": invoice.number, "kind": invoice.kind, "reference": invoice.reference}
        event = AuditEvent("invoice.issued", invoice.organization_id, invoice.id, changes)
        self._audit.record(connection, by, event)
        if invoice.due_nano:
            return StoredInvoice(invoice, None)
        self._mark_paid(connection, invoice, now)
        return StoredInvoice(invoice, now)

    def _find_due(self, connection: sa.Connection, draft: InvoiceDraft, total_nano: int) -> int:
        """Return what the organization owes of a month's usage."""
        if draft.kind != "month":
            return 0
        debt_nano = wallet.read_wallet(connection, draft.organization_id).debt_nano
        return max(0, min(debt_nano, total_nano - draft.credits_nano))

    def mark_owed_paid(self, connection: sa.Connection, organization_id: str | None = None) -> None:
        """Note that the invoices of organizations that owe nothing any more are paid."""
        for invoice in store.select_owed(connection, organization_id):
            if wallet.read_wallet(connection, invoice.organization_id).debt_nano == 0:
                self._mark_paid(connection, invoice, self._clock.now())

    def _mark_paid(self, connection: sa.Connection, invoice: Invoice, now: float) -> None:
        if not store.insert_payment(connection, invoice.id, at=now):
            return
        if invoice.kind == "credit_note":
            return
        event = InvoicePaid(
            organization_id=invoice.organization_id,
            invoice_id=invoice.id,
            number=invoice.number,
            kind=invoice.kind,
            month=invoice.month,
            total_nano=invoice.total_nano,
            currency=invoice.currency,
            paid_at=now,
        )
        publish(connection, event, invoice.id, now=now, read_wanted=self._read_wanted)

    def has_owed(self, connection: sa.Connection) -> bool:
        """Return whether there is an invoice that is not paid."""
        return store.has_owed(connection)

    def issue_for_payment(
        self,
        connection: sa.Connection,
        order: PaymentOrder,
        organization_name: str,
        *,
        by: Actor,
        suffix: str = "",
        cents: int | None = None,
    ) -> StoredInvoice:
        nano = (
            order.amount_nano
            if cents is None
            else cents * (order.amount_nano // order.amount_cents)
        )
        draft = InvoiceDraft(
            organization_id=order.organization_id,
            organization_name=organization_name,
            kind="payment",
            reference=f"{order.id}{suffix}",
            lines=(InvoiceLine(description="Payment into the prepaid wallet", amount_nano=nano),),
            note=f"Payment {order.id}",
        )
        return self.issue(connection, draft, by=by)

    def issue_credit_note(
        self,
        connection: sa.Connection,
        corrected: Invoice,
        *,
        reference: str,
        amount_nano: int,
        reason: str,
        by: Actor,
    ) -> StoredInvoice:
        """Correct an invoice by an amount that it claimed too much."""
        draft = InvoiceDraft(
            organization_id=corrected.organization_id,
            organization_name=corrected.customer.name,
            kind="credit_note",
            reference=reference,
            corrects=corrected.id,
            lines=(
                InvoiceLine(
                    description=f"Credit for invoice {corrected.number}", amount_nano=-amount_nano
                ),
            ),
            note=reason,
        )
        return self.issue(connection, draft, by=by)


def get_invoice(connection: sa.Connection, organization_id: str, invoice_id: str) -> StoredInvoice:
    """Return an invoice of an organization by its id or number. Raise `InvoiceNotFoundError`."""
    found = store.find_invoice(connection, organization_id, invoice_id)
    if found is None:
        raise InvoiceNotFoundError(f"There is no invoice {invoice_id!r}.")
    return found


def find_invoice_of(connection: sa.Connection, reference: str) -> StoredInvoice | None:
    return store.find_invoice_of(connection, reference)


def list_invoices(
    connection: sa.Connection,
    organization_id: str,
    *,
    kind: InvoiceKind | None = None,
    before: str | None,
    limit: int,
) -> list[StoredInvoice]:
    """Return invoices, newest first, of those with a smaller id than `before`; only those of a kind
    if one is given."""
    return store.select_invoices(connection, organization_id, kind=kind, before=before, limit=limit)
