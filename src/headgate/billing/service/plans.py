"""The plans of organizations: monthly credits, and whether the wallet pays what exceeds them."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from headgate.accounts.service import AccountService
from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.billing.model.budgets import end_of_month, name_month
from headgate.billing.model.ledger import name_account, name_credits
from headgate.billing.model.plans import (
    NANO_PER_CREDIT,
    InvalidPlanError,
    OverageNotAllowedError,
    Plan,
    PlanNotFoundError,
    PlanQuotaError,
    PlanVersion,
    Subscription,
    check_plan,
    find_current,
)
from headgate.billing.service import credits
from headgate.billing.store import ledger
from headgate.billing.store import plans as store
from headgate.kit.clock import Clock
from headgate.kit.db.locks import lock_names

LATEST_SECONDS = 10 * 366 * 86_400
"""How far ahead a plan or a subscription may begin."""


def find_plan(connection: sa.Connection, organization_id: str, at: float) -> Plan | None:
    """Return the plan that an organization has at a time (unix seconds); None for a prepaid one,
    whose wallet pays everything. It takes one statement for an organization without a plan."""
    subscription = store.find_subscription(connection, organization_id, at)
    if subscription is None or subscription.plan_id is None:
        return None
    version = find_version(connection, subscription.plan_id, at)
    return Plan(
        version.id,
        version.name,
        version.credits_per_month * NANO_PER_CREDIT,
        version.overage and subscription.overage,
    )


def find_version(connection: sa.Connection, plan_id: str, at: float) -> PlanVersion:
    """Return what a plan grants at a time. Raise `PlanNotFoundError`."""
    own = store.find_plan(connection, plan_id, at)
    shipped = (each for each in store.list_shipped() if each.id == plan_id)
    found = find_current([*shipped] if own is None else [*shipped, own], at)
    if found is None:
        raise PlanNotFoundError(f"There is no plan {plan_id!r}.", param="plan")
    return found


class BillingState(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the plan of an organization with its credits of this month and its wallet. Amounts are
    nano-dollars. `plan` is None for a prepaid organization."""

    organization_id: str
    plan: PlanVersion | None
    subscription: Subscription | None
    credits_nano: int
    remaining_nano: int
    resets_at: float
    wallet_nano: int
    history: Sequence[Subscription]


class PlanService:
    """Define plans and subscribe organizations to them. The caller commits."""

    def __init__(self, clock: Clock, accounts: AccountService, audit: AuditLog) -> None:
        self._clock = clock
        self._accounts = accounts
        self._audit = audit

    def list_history(self, connection: sa.Connection) -> list[PlanVersion]:
        """Return every version of every plan, by plan, the newest first."""
        versions = [*store.list_shipped(), *store.select_plans(connection)]
        order = list(dict.fromkeys(each.id for each in versions))
        return sorted(
            versions, key=lambda each: (order.index(each.id), -each.effective_from, -each.number)
        )

    def list(self, connection: sa.Connection, at: float | None = None) -> list[PlanVersion]:
        """Return the version of every plan that is in force at a time (None: now)."""
        at = self._clock.now() if at is None else at
        versions = self.list_history(connection)
        ids = dict.fromkeys(each.id for each in versions)
        current = (find_current([e for e in versions if e.id == each], at) for each in ids)
        return [each for each in current if each is not None]

    def get(self, connection: sa.Connection, plan_id: str) -> PlanVersion:
        """Return the version of a plan that is in force now. Raise `PlanNotFoundError`."""
        for version in self.list(connection):
            if version.id == plan_id:
                return version
        raise PlanNotFoundError(f"There is no plan {plan_id!r}.", param="plan")

    def define(self, connection: sa.Connection, version: PlanVersion, *, by: Actor) -> PlanVersion:
        """Store a new version of a plan, or a new plan, that is in force from its time on (0: from
        now on). Raise `InvalidPlanError`, also for a time in the past: what was granted stays."""
        now = self._clock.now()
        number = store.lock(connection, store.PLANS) + 1
        defined = replace(
            version,
            number=number,
            effective_from=self._check_time(version.effective_from, now),
            created_by=by.id,
            created_at=now,
        )
        check_plan(defined)
        store.insert_plan(connection, defined)
        changes = msgspec.to_builtins(defined)
        self._audit.record(connection, by, AuditEvent("plan.defined", None, defined.id, changes))
        return defined

    def assign(
        self,
        connection: sa.Connection,
        organization_id: str,
        plan_id: str | None,
        *,
        overage: bool = False,
        effective_from: float = 0.0,
        by: Actor,
    ) -> Subscription:
        """Set the plan of an organization from a time on (0: now); None ends its plan.

        Raise `AccountNotFoundError`, `PlanNotFoundError`, `OverageNotAllowedError`, and
        `InvalidPlanError` for a time in the past.
        """
        self._accounts.get_organization(connection, organization_id)
        begins = self._check_time(effective_from, self._clock.now())
        if plan_id is not None:
            version = find_version(connection, plan_id, begins)
            if overage and not version.overage:
                raise OverageNotAllowedError(f"The plan {version.name} allows no overage.")
        elif overage:
            message = "Without a plan the wallet pays everything; there is no overage."
            raise OverageNotAllowedError(message)
        return self._add(connection, organization_id, plan_id, overage, begins, by)

    def set_overage(
        self, connection: sa.Connection, organization_id: str, *, enabled: bool, by: Actor
    ) -> Subscription:
        """Let the wallet pay what exceeds the credits from now on, or no longer. Raise
        `OverageNotAllowedError`."""
        now = self._clock.now()
        current = store.find_subscription(connection, organization_id, now)
        if current is None or current.plan_id is None:
            message = "The organization has no plan: its wallet pays everything."
            raise OverageNotAllowedError(message)
        version = find_version(connection, current.plan_id, now)
        if enabled and not version.overage:
            raise OverageNotAllowedError(f"The plan {version.name} allows no overage.")
        if current.overage is enabled:
            return current
        return self._add(connection, organization_id, current.plan_id, enabled, now, by)

    def find_subscription(
        self, connection: sa.Connection, organization_id: str
    ) -> Subscription | None:
        """Return the subscription that is in force now; None for a prepaid organization."""
        return store.find_subscription(connection, organization_id, self._clock.now())

    def check_quota(
        self, connection: sa.Connection, organization_id: str, name: str, count: Callable[[], int]
    ) -> None:
        """Raise `PlanQuotaError` if the plan of an organization allows no more of something
        (`seats`, `projects` or `keys`) than `count` finds. Transactions that check one organization
        wait for each other."""
        subscription = self.find_subscription(connection, organization_id)
        if subscription is None or subscription.plan_id is None:
            return
        plan = self.get(connection, subscription.plan_id)
        limit: int | None = getattr(plan.limits, name)
        if limit is None:
            return
        lock_names(connection, [organization_id])
        used = count()
        if used >= limit:
            raise PlanQuotaError(plan.name, name, limit=limit, used=used)

    def list_subscriptions(
        self, connection: sa.Connection, organization_id: str
    ) -> list[Subscription]:
        """Return all subscriptions of an organization, those that begin last first."""
        return store.select_subscriptions(connection, organization_id)

    def read_billing(self, connection: sa.Connection, organization_id: str) -> BillingState:
        """Return plan, credits and wallet of an organization, as they are now. The credits of a
        month are granted by its first managed call, and are there from its beginning."""
        now = self._clock.now()
        month = name_month(now)
        current = store.find_subscription(connection, organization_id, now)
        plan_id = None if current is None else current.plan_id
        plan = None if plan_id is None else self.get(connection, plan_id)
        planned = 0 if plan is None else plan.credits_per_month * NANO_PER_CREDIT
        granted = max(planned, credits.sum_granted(connection, organization_id, month=month))
        balances = dict(ledger.list_credits(connection, organization_id))
        wallet = name_account(organization_id, "wallet")
        return BillingState(
            organization_id=organization_id,
            plan=plan,
            subscription=current,
            credits_nano=granted,
            remaining_nano=balances.get(name_credits(month), granted),
            resets_at=end_of_month(month),
            wallet_nano=ledger.read_balance(connection, wallet),
            history=store.select_subscriptions(connection, organization_id),
        )

    def _check_time(self, at: float, now: float) -> float:
        if not at:
            return now
        if not now <= at <= now + LATEST_SECONDS:
            message = "effective_from must not be in the past, and at most ten years ahead."
            raise InvalidPlanError(message, param="effective_from")
        return at

    def _add(
        self,
        connection: sa.Connection,
        organization_id: str,
        plan_id: str | None,
        overage: bool,
        begins: float,
        by: Actor,
    ) -> Subscription:
        subscription = Subscription(
            store.lock(connection, store.SUBSCRIPTIONS) + 1,
            organization_id,
            plan_id,
            overage,
            begins,
            self._clock.now(),
            by.id,
        )
        store.insert_subscription(connection, subscription)
        now = self._clock.now()
        if begins <= now:
            plan = find_plan(connection, organization_id, now)
            month = name_month(now)
            credits.raise_grant(connection, organization_id, plan, month=month, at=now)
        changes = {"plan": plan_id, "overage": overage, "effective_from": begins}
        event = AuditEvent("subscription.changed", organization_id, organization_id, changes)
        self._audit.record(connection, by, event)
        return subscription
