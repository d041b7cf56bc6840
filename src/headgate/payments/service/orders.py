"""Record payments: each is credited once, in one transaction with its invoice and events."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import sqlalchemy as sa

from headgate.accounts.service import AccountService
from headgate.audit.model import Actor, ActorKind, AuditEvent
from headgate.audit.service import AuditLog
from headgate.billing.service import wallet
from headgate.kit import outbox
from headgate.kit.clock import Clock
from headgate.kit.failpoint import failpoint
from headgate.kit.ids import IdGenerator
from headgate.payments.events import WalletRecharged
from headgate.payments.model.order import (
    CURRENCY,
    NANO_PER_CENT,
    STRIPE,
    ChargeOutcome,
    CheckoutPage,
    OrderKind,
    OrderStatus,
    PaymentNotice,
    PaymentOrder,
    PaymentOrderNotFoundError,
)
from headgate.payments.service import invoices
from headgate.payments.service.auto_top_ups import AutoTopUpService
from headgate.payments.service.invoices import InvoiceService
from headgate.payments.service.outgoing import publish
from headgate.payments.store import orders as store

REFUSED = "refused"
EARLY = "early"
DUPLICATE = "duplicate"
IGNORED = "ignored"
CLAIM_SECONDS = 86_400.0


class OrderService:
    """Make orders, and credit or take back what a provider says of them."""

    def __init__(
        self,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
        *,
        accounts: AccountService,
        invoices: InvoiceService,
        auto_top_ups: AutoTopUpService,
        read_wanted: outbox.ReadWanted,
    ) -> None:
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._accounts = accounts
        self._invoices = invoices
        self._auto_top_ups = auto_top_ups
        self._read_wanted = read_wanted

    def create(
        self,
        connection: sa.Connection,
        organization_id: str,
        amount_cents: int,
        *,
        by: Actor,
        kind: OrderKind = "checkout",
        save_payment_method: bool = False,
        claim: str | None = None,
    ) -> PaymentOrder:
        """Make an order, or return the one that was made under the same claim in 24 hours."""
        now = self._clock.now()
        known = None if claim is None else store.find_order_of_claim(connection, claim)
        if known is not None and known.created_at > now - CLAIM_SECONDS:
            return known
        if known is not None:
            store.update_order(connection, known.id, claim=None)
        order = PaymentOrder(
            id=self._ids.make("pay"),
            organization_id=organization_id,
            kind=kind,
            provider=STRIPE,
            amount_cents=amount_cents,
            currency=CURRENCY,
            status="pending",
            save_payment_method=save_payment_method,
            claim=claim,
            attempted_at=now,
            created_at=now,
        )
        store.insert_order(connection, order)
        changes = {"amount_cents": amount_cents, "kind": kind}
        self._record(connection, "top_up.created", order, by, changes)
        return order

    def attach_page(
        self, connection: sa.Connection, order: PaymentOrder, page: CheckoutPage
    ) -> PaymentOrder:
        store.update_order(connection, order.id, session_id=page.session_id, url=page.url)
        return get_order(connection, order.organization_id, order.id)

    def handle_notice(
        self, connection: sa.Connection, provider: str, notice: PaymentNotice, *, address: str = ""
    ) -> str:
        """Act by a verified message of a provider, once for each message. Return the outcome."""
        by = Actor(ActorKind.SYSTEM, provider, address=address)
        known = store.find_event_outcome(connection, provider, notice.id)
        if known is not None:
            return known if known == REFUSED else DUPLICATE
        order = self._find_order(connection, provider, notice)
        # Another process may have handled it while this one waited for the order.
        known = store.find_event_outcome(connection, provider, notice.id)
        if known is not None:
            return known if known == REFUSED else DUPLICATE
        if notice.kind == "method_removed":
            outcome = self._remove_method(connection, notice, by)
        else:
            outcome = IGNORED if order is None else self._apply(connection, order, notice, by)
        if outcome == EARLY:
            return outcome
        store.insert_event(
            connection,
            provider,
            notice.id,
            type_=notice.type,
            order_id="" if order is None else order.id,
            outcome=outcome,
            now=self._clock.now(),
        )
        failpoint("payment_credited")
        return outcome

    def _find_order(
        self, connection: sa.Connection, provider: str, notice: PaymentNotice
    ) -> PaymentOrder | None:
        """Find the order of a message, and lock it until the transaction ends."""
        if notice.kind in ("unrelated", "method_removed"):
            return None
        order = None
        if notice.order_id:
            order = store.lock_order(connection, notice.order_id)
        elif notice.payment_id:
            found = store.find_order_of_payment(connection, provider, notice.payment_id)
            order = None if found is None else store.lock_order(connection, found.id)
        return order

    def _apply(
        self, connection: sa.Connection, order: PaymentOrder, notice: PaymentNotice, by: Actor
    ) -> str:
        fault = self._find_fault(connection, order, notice, by.id)
        if fault is not None:
            changes = {"event": notice.id, "type": notice.type, "reason": fault}
            self._record(connection, "top_up.refused", order, by, changes)
            return REFUSED
        if notice.kind == "paid":
            self._auto_top_ups.save_method(connection, order, notice)
            return self.credit(connection, order, notice.payment_id or None, by=by)
        if notice.kind in ("failed", "expired"):
            return self._apply_end(connection, order, notice, by)
        if order.status != "paid":
            return EARLY
        if notice.kind == "refunded":
            return self.take_back(connection, order, notice.amount_cents, by=by)
        return self._apply_dispute(connection, order, notice, by)

    def _find_fault(
        self, connection: sa.Connection, order: PaymentOrder, notice: PaymentNotice, provider: str
    ) -> str | None:
        """Return why a message cannot be about the order; None if it can."""
        if order.provider != provider:
            return "the order is of another provider"
        if notice.kind in ("failed", "expired"):
            return None
        if notice.currency != order.currency:
            return f"the currency is {notice.currency!r}, not {order.currency!r}"
        if notice.kind == "paid" and notice.amount_cents != order.amount_cents:
            return f"the amount is {notice.amount_cents} cents, not {order.amount_cents}"
        if not 0 < notice.amount_cents <= order.amount_cents:
            return f"the amount is {notice.amount_cents} cents of {order.amount_cents}"
        if order.payment_id is not None and notice.payment_id not in ("", order.payment_id):
            return "the order has another payment"
        if notice.payment_id:
            other = store.find_order_of_payment(connection, provider, notice.payment_id)
            if other is not None and other.id != order.id:
                return "the payment is of another order"
        return None

    def credit(
        self, connection: sa.Connection, order: PaymentOrder, payment_id: str | None, *, by: Actor
    ) -> str:
        """Credit a paid order to its wallet, exactly once, with its invoice and events."""
        now = self._clock.now()
        values = {"paid_at": now, "payment_id": payment_id or order.payment_id, "failure": None}
        # Money that arrives after the page has expired is credited, too.
        among = ("pending", "failed", "expired")
        if not store.change_status(connection, order.id, "paid", among=among, **values):
            if payment_id and order.payment_id is None:
                store.update_order(connection, order.id, payment_id=payment_id)
            return "already_credited"
        organization_id = order.organization_id
        wallet.credit(
            connection,
            f"top_up:{organization_id}:{order.id}",
            organization_id,
            source="payment_clearing",
            amount_nano=order.amount_nano,
            now=now,
        )
        self._auto_top_ups.note_paid(connection, order)
        name = self._accounts.get_organization(connection, organization_id).name
        self._invoices.issue_for_payment(connection, order, name, by=by)
        self._invoices.mark_owed_paid(connection, organization_id)
        balance = wallet.read_wallet(connection, organization_id)
        event = WalletRecharged(
            organization_id=organization_id,
            payment_id=order.id,
            kind=order.kind,
            amount_nano=order.amount_nano,
            currency=order.currency,
            available_nano=balance.available_nano,
            debt_nano=balance.debt_nano,
            created_at=now,
        )
        publish(connection, event, order.id, now=now, read_wanted=self._read_wanted)
        changes = {"amount_cents": order.amount_cents, "currency": order.currency}
        self._record(connection, "top_up.paid", order, by, changes)
        return "credited"

    def _apply_end(
        self, connection: sa.Connection, order: PaymentOrder, notice: PaymentNotice, by: Actor
    ) -> str:
        if order.kind == "automatic":
            outcome = ChargeOutcome("failed", notice.failure, is_final=notice.is_final)
            return self.fail(connection, order, outcome, by=by)
        status = "expired" if notice.kind == "expired" else "failed"
        # The page of a checkout stays open after a declined card, so only its end is the order's.
        if notice.type == "payment_intent.payment_failed":
            return IGNORED
        failure = notice.failure or None
        if not store.change_status(
            connection, order.id, status, among=("pending",), failure=failure
        ):
            return IGNORED
        self._record(connection, f"top_up.{status}", order, by, {"reason": failure})
        return status

    def fail(
        self, connection: sa.Connection, order: PaymentOrder, outcome: ChargeOutcome, *, by: Actor
    ) -> str:
        """End an automatic payment that was declined, once, and decide about the next one."""
        failure = outcome.failure or "The payment was declined."
        among: tuple[OrderStatus, ...] = ("pending",)
        if not store.change_status(connection, order.id, "failed", among=among, failure=failure):
            return IGNORED
        outcome = msgspec.structs.replace(outcome, failure=failure)
        self._auto_top_ups.note_failed(connection, order, outcome, by=by)
        self._record(connection, "top_up.failed", order, by, {"reason": failure})
        return "failed"

    def expire(self, connection: sa.Connection, order: PaymentOrder, *, by: Actor) -> None:
        """End an automatic payment that was not made and is not needed any more."""
        if store.change_status(connection, order.id, "expired", among=("pending",)):
            self._record(connection, "top_up.expired", order, by, {"reason": "not needed"})

    def _remove_method(self, connection: sa.Connection, notice: PaymentNotice, by: Actor) -> str:
        is_known = self._auto_top_ups.remove_method(connection, notice.payment_method_id, by=by)
        return notice.kind if is_known else IGNORED

    def take_back(
        self,
        connection: sa.Connection,
        order: PaymentOrder,
        refunded_cents: int,
        *,
        by: Actor,
        reason: str = "Refund",
    ) -> str:
        """Debit the wallet by what was refunded beyond what is recorded; `refunded_cents` is the
        sum of all refunds of the order. What the wallet does not have becomes debt."""
        new_cents = refunded_cents - order.refunded_cents
        if new_cents <= 0:
            return IGNORED
        store.update_order(connection, order.id, refunded_cents=refunded_cents)
        reference = f"{order.id}:refund:{refunded_cents}"
        self._debit(connection, order, "refund", reference, new_cents, by=by, reason=reason)
        return "refunded"

    def _debit(
        self,
        connection: sa.Connection,
        order: PaymentOrder,
        kind: str,
        reference: str,
        cents: int,
        *,
        by: Actor,
        reason: str,
    ) -> None:
        wallet.debit(
            connection,
            f"{kind}:{order.organization_id}:{reference}",
            order.organization_id,
            target="payment_clearing",
            amount_nano=cents * NANO_PER_CENT,
            now=self._clock.now(),
        )
        paid = invoices.find_invoice_of(connection, order.id)
        if paid is not None:
            self._invoices.issue_credit_note(
                connection,
                paid.invoice,
                reference=reference,
                amount_nano=cents * NANO_PER_CENT,
                reason=reason,
                by=by,
            )
        changes = {"amount_cents": cents, "reason": reason}
        self._record(connection, f"top_up.{kind}", order, by, changes)
        self._auto_top_ups.note_taken_back(connection, order.organization_id, reason, by=by)

    def _apply_dispute(
        self, connection: sa.Connection, order: PaymentOrder, notice: PaymentNotice, by: Actor
    ) -> str:
        """Take a disputed payment back, or give it again once the dispute is won."""
        cents, object_id = notice.amount_cents, notice.object_id
        if notice.kind == "disputed":
            store.update_order(connection, order.id, disputed_cents=order.disputed_cents + cents)
            reference = f"{order.id}:dispute:{object_id}"
            self._debit(
                connection, order, "dispute", reference, cents, by=by, reason="Payment in dispute"
            )
            return notice.kind
        if order.disputed_cents < cents:
            return EARLY
        store.update_order(connection, order.id, disputed_cents=order.disputed_cents - cents)
        wallet.credit(
            connection,
            f"dispute_reversal:{order.organization_id}:{order.id}:dispute:{object_id}",
            order.organization_id,
            source="payment_clearing",
            amount_nano=cents * NANO_PER_CENT,
            now=self._clock.now(),
        )
        name = self._accounts.get_organization(connection, order.organization_id).name
        suffix = f":dispute_won:{object_id}"
        self._invoices.issue_for_payment(connection, order, name, by=by, suffix=suffix, cents=cents)
        self._record(connection, "top_up.dispute_won", order, by, {"amount_cents": cents})
        return notice.kind

    def _record(
        self,
        connection: sa.Connection,
        action: str,
        order: PaymentOrder,
        by: Actor,
        changes: Mapping[str, object],
    ) -> None:
        self._audit.record(
            connection, by, AuditEvent(action, order.organization_id, order.id, dict(changes))
        )


def get_order(connection: sa.Connection, organization_id: str, order_id: str) -> PaymentOrder:
    """Return an order of an organization. Raise `PaymentOrderNotFoundError`."""
    found = store.find_order(connection, order_id)
    if found is None or found.organization_id != organization_id:
        raise PaymentOrderNotFoundError(f"There is no payment {order_id!r}.")
    return found


def list_orders(
    connection: sa.Connection, organization_id: str, *, before: str | None, limit: int
) -> list[PaymentOrder]:
    """Return orders, newest first, of those with a smaller id than `before`."""
    return store.select_orders(connection, organization_id, before=before, limit=limit)
