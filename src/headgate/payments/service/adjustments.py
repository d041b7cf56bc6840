"""Correct a wallet by hand, with a reason, by new entries only."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.billing.service import wallet
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.payments.service.invoices import InvoiceService, get_invoice


class InvalidAdjustmentError(HeadgateError):
    """The adjustment is zero, has no reason, or corrects an invoice upwards.

    State an amount, positive to credit the wallet, and why.
    """

    kind = Kind.INVALID
    code = "invalid_adjustment"


class Adjustment(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a correction: positive amounts credit the wallet, negative ones debit it. With
    `invoice_id`, a credit note corrects that invoice by the credited amount."""

    organization_id: str
    amount_nano: int
    reason: str
    reference: str
    invoice_id: str | None = None


class AdjustmentService:
    def __init__(self, clock: Clock, audit: AuditLog, invoices: InvoiceService) -> None:
        self._clock = clock
        self._audit = audit
        self._invoices = invoices

    def adjust(self, connection: sa.Connection, wanted: Adjustment, *, by: Actor) -> bool:
        """Correct a wallet, once for each reference. Return whether it is new.

        A debit beyond what the wallet has becomes debt. Raise `InvalidAdjustmentError`, and
        `ReferenceConflictError` if the reference was used for another amount.
        """
        _check(wanted)
        organization_id = wanted.organization_id
        transaction_id = f"adjustment:{organization_id}:{wanted.reference}"
        now = self._clock.now()
        if wanted.amount_nano > 0:
            is_new = wallet.credit(
                connection,
                transaction_id,
                organization_id,
                source="adjustments",
                amount_nano=wanted.amount_nano,
                now=now,
            )
        else:
            is_new = wallet.debit(
                connection,
                transaction_id,
                organization_id,
                target="adjustments",
                amount_nano=-wanted.amount_nano,
                now=now,
            )
        if not is_new:
            return False
        if wanted.invoice_id is not None:
            corrected = get_invoice(connection, organization_id, wanted.invoice_id).invoice
            self._invoices.issue_credit_note(
                connection,
                corrected,
                reference=transaction_id,
                amount_nano=wanted.amount_nano,
                reason=wanted.reason,
                by=by,
            )
        self._invoices.mark_owed_paid(connection, organization_id)
        changes = {
            "amount_nano": wanted.amount_nano,
            "reason": wanted.reason,
            "reference": wanted.reference,
        }
        event = AuditEvent("wallet.adjusted", organization_id, organization_id, changes)
        self._audit.record(connection, by, event)
        return True


def _check(wanted: Adjustment) -> None:
    if wanted.amount_nano == 0:
        raise InvalidAdjustmentError("The amount of an adjustment is not 0.", param="amount")
    if not wanted.reason.strip():
        raise InvalidAdjustmentError("An adjustment needs a reason.", param="reason")
    if wanted.invoice_id is not None and wanted.amount_nano < 0:
        raise InvalidAdjustmentError(
            "A credit note gives money back: its amount is positive.", param="amount"
        )
