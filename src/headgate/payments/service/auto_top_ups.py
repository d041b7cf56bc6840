"""Set automatic top-ups, and decide when one is due, was declined, or has a new payment method."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.billing.model.budgets import end_of_month, name_month, start_of_month
from headgate.billing.service import wallet
from headgate.kit import outbox
from headgate.kit.clock import Clock
from headgate.kit.db.locks import lock_names
from headgate.payments.events import TopUpFailed
from headgate.payments.model.auto_top_up import (
    FAILURES_MAX,
    AutoTopUp,
    check_auto_top_up,
    find_backoff_seconds,
)
from headgate.payments.model.order import (
    CURRENCY,
    NANO_PER_CENT,
    ChargeOutcome,
    PaymentNotice,
    PaymentOrder,
)
from headgate.payments.service.outgoing import publish
from headgate.payments.store import auto_top_ups as store
from headgate.payments.store import orders as order_store

METHOD_REMOVED = "The saved payment method was removed."


class AutoTopUpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Hold new settings of an automatic top-up. None leaves one as it is; `has_maximum` tells
    whether `month_cents` is one of the new settings, where None is no limit."""

    enabled: bool | None = None
    threshold_nano: int | None = None
    amount_cents: int | None = None
    month_cents: int | None = None
    has_maximum: bool = False


class AutoTopUpState(msgspec.Struct, frozen=True):
    """Hold an automatic top-up with what it charged in this month, in cents."""

    settings: AutoTopUp
    charged_cents: int


class AutoTopUpService:
    """Change automatic top-ups in the transactions of others."""

    def __init__(
        self,
        clock: Clock,
        audit: AuditLog,
        *,
        cents_min: int,
        cents_max: int,
        read_wanted: outbox.ReadWanted,
    ) -> None:
        self._clock = clock
        self._audit = audit
        self._cents_min = cents_min
        self._cents_max = cents_max
        self._read_wanted = read_wanted

    def read(self, connection: sa.Connection, organization_id: str) -> AutoTopUpState:
        """Return the automatic top-up of an organization, and what it charged in this month."""
        since = start_of_month(name_month(self._clock.now()))
        charged = store.sum_automatic(connection, organization_id, since=since)
        return AutoTopUpState(store.find_auto_top_up(connection, organization_id), charged)

    def change(
        self,
        connection: sa.Connection,
        organization_id: str,
        wanted: AutoTopUpRequest,
        *,
        by: Actor,
    ) -> AutoTopUpState:
        """Change the settings that are given; what had failed is tried again. Raise
        `NoPaymentMethodError` and `InvalidAutoTopUpError`."""
        lock_names(connection, [organization_id])
        given = {
            "enabled": wanted.enabled,
            "threshold_nano": wanted.threshold_nano,
            "amount_cents": wanted.amount_cents,
        }
        values: dict[str, Any] = {name: each for name, each in given.items() if each is not None}
        if wanted.has_maximum:
            values["month_cents"] = wanted.month_cents
        known = store.find_auto_top_up(connection, organization_id)
        changed = msgspec.structs.replace(known, **values)
        check_auto_top_up(changed, cents_min=self._cents_min, cents_max=self._cents_max)
        fresh = {"failures": 0, "failure": None, "retry_at": 0.0, "capped_month": ""}
        store.update_auto_top_up(connection, organization_id, **values, **fresh)
        self._record(connection, "auto_top_up.changed", organization_id, values, by)
        return self.read(connection, organization_id)

    def find_due(self, connection: sa.Connection) -> list[str]:
        """Return the organizations that have less than their threshold, by committed balances."""
        now = self._clock.now()
        ready = store.select_ready(connection, now=now, month=name_month(now))
        available = wallet.read_available_of(connection, [each.organization_id for each in ready])
        return [
            each.organization_id
            for each in ready
            if available.get(each.organization_id, 0) < each.threshold_nano
        ]

    def find_wanted(self, connection: sa.Connection, organization_id: str) -> AutoTopUp | None:
        """Return the automatic top-up of an organization that needs one now.

        From then on, no other transaction changes the wallet or starts a payment for it.
        """
        lock_names(connection, [organization_id])
        settings = store.find_auto_top_up(connection, organization_id)
        if not settings.is_ready(self._clock.now()):
            return None
        available = wallet.read_wallet(connection, organization_id).available_nano
        return settings if available < settings.threshold_nano else None

    def find_next(self, connection: sa.Connection, organization_id: str) -> AutoTopUp | None:
        """Return the automatic top-up that is to be charged now; None where one is under way, or
        the month's maximum is reached, which is told once."""
        settings = self.find_wanted(connection, organization_id)
        if settings is None or store.has_pending(connection, organization_id):
            return None
        month = name_month(self._clock.now())
        charged = store.sum_automatic(connection, organization_id, since=start_of_month(month))
        maximum = settings.month_cents
        if maximum is None or charged + settings.amount_cents <= maximum:
            return settings
        if settings.capped_month != month:
            self._note_cap(connection, settings, month)
        return None

    def _note_cap(self, connection: sa.Connection, settings: AutoTopUp, month: str) -> None:
        store.update_auto_top_up(connection, settings.organization_id, capped_month=month)
        reason = f"The monthly maximum of automatic top-ups is reached in {month}."
        event = TopUpFailed(
            organization_id=settings.organization_id,
            payment_id=None,
            amount_nano=settings.amount_cents * NANO_PER_CENT,
            currency=CURRENCY,
            code="monthly_maximum_reached",
            reason=reason,
            failures=settings.failures,
            enabled=True,
            retry_at=end_of_month(month),
            created_at=self._clock.now(),
        )
        self._publish(connection, event, f"{settings.organization_id}:{month}:{settings.version}")

    def save_method(
        self, connection: sa.Connection, order: PaymentOrder, notice: PaymentNotice
    ) -> None:
        """Keep the payment method of a payment that was to save it, if it is the newest one."""
        if not (order.save_payment_method and notice.payment_method_id):
            return
        organization_id = order.organization_id
        lock_names(connection, [organization_id])
        known = store.find_auto_top_up(connection, organization_id)
        customer_id = order_store.find_settings(connection, organization_id).customer_id
        if order.id < known.method_order_id or notice.customer_id != customer_id:
            return
        if order.id == known.method_order_id and known.payment_method_id is None:
            # It was removed since then.
            return
        store.update_auto_top_up(
            connection,
            organization_id,
            payment_method_id=notice.payment_method_id,
            method_order_id=order.id,
            failures=0,
            failure=None,
            retry_at=0.0,
        )

    def remove_method(
        self, connection: sa.Connection, payment_method_id: str, *, by: Actor
    ) -> bool:
        """Forget a payment method that the provider does not have any more, and disable what was
        charged to it. Return whether anybody had it."""
        found = store.select_of_method(connection, payment_method_id)
        for each in found:
            values = {"payment_method_id": None, "enabled": False, "failure": METHOD_REMOVED}
            store.update_auto_top_up(connection, each.organization_id, **values)
            changes = {"enabled": False, "reason": METHOD_REMOVED}
            self._record(connection, "auto_top_up.disabled", each.organization_id, changes, by)
        return bool(found)

    def note_taken_back(
        self, connection: sa.Connection, organization_id: str, reason: str, *, by: Actor
    ) -> None:
        """Disable automatic top-ups after a refund or a dispute: what was given back must not be
        charged again, until the owner wants it."""
        lock_names(connection, [organization_id])
        settings = store.find_auto_top_up(connection, organization_id)
        if not settings.enabled:
            return
        values = {"enabled": False, "failure": reason}
        store.update_auto_top_up(connection, organization_id, **values)
        changes = {"enabled": False, "reason": reason}
        self._record(connection, "auto_top_up.disabled", organization_id, changes, by)

    def note_paid(self, connection: sa.Connection, order: PaymentOrder) -> None:
        """Forget the failures before a payment that was made."""
        if order.kind == "automatic":
            values = {"failures": 0, "failure": None, "retry_at": 0.0}
            store.update_auto_top_up(connection, order.organization_id, **values)

    def note_failed(
        self, connection: sa.Connection, order: PaymentOrder, outcome: ChargeOutcome, *, by: Actor
    ) -> None:
        """Wait before the next attempt, or disable automatic top-ups, and tell the owner."""
        now, organization_id = self._clock.now(), order.organization_id
        settings = store.find_auto_top_up(connection, organization_id)
        failures = settings.failures + 1
        is_off = outcome.is_final or failures >= FAILURES_MAX
        enabled = settings.enabled and not is_off
        retry_at = now + find_backoff_seconds(failures)
        values = {"failures": failures, "failure": outcome.failure, "retry_at": retry_at}
        store.update_auto_top_up(connection, organization_id, enabled=enabled, **values)
        if settings.enabled and is_off:
            changes = {"enabled": False, "reason": outcome.failure, "failures": failures}
            self._record(connection, "auto_top_up.disabled", organization_id, changes, by)
        event = TopUpFailed(
            organization_id=organization_id,
            payment_id=order.id,
            amount_nano=order.amount_nano,
            currency=order.currency,
            code="declined",
            reason=outcome.failure,
            failures=failures,
            enabled=enabled,
            retry_at=retry_at if enabled else None,
            created_at=now,
        )
        self._publish(connection, event, order.id)

    def _publish(self, connection: sa.Connection, event: TopUpFailed, subject: str) -> None:
        publish(connection, event, subject, now=self._clock.now(), read_wanted=self._read_wanted)

    def _record(
        self,
        connection: sa.Connection,
        action: str,
        organization_id: str,
        changes: dict[str, Any],
        by: Actor,
    ) -> None:
        event = AuditEvent(action, organization_id, organization_id, changes)
        self._audit.record(connection, by, event)
