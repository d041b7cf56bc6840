"""What the plans of organizations allow their managed calls, in memory."""

from __future__ import annotations

from collections.abc import Container

import sqlalchemy as sa

from headgate.billing.model.plans import (
    PlanVersion,
    Subscription,
    find_current,
)
from headgate.billing.store import plans as store
from headgate.billing.store.plans import TOPIC
from headgate.kit.clock import Clock
from headgate.relay.ports import ManagedCallLimits

UNLIMITED = ManagedCallLimits()


class PlanLimitIndex:
    """Find the limits of an organization's plan (`relay.ports.OrganizationLimits`).

    It knows plans and subscriptions that begin later, so it needs to be loaded again only when one
    was added.
    """

    def __init__(self, clock: Clock) -> None:
        self.organizations: Container[str] = frozenset[str]()
        self._clock = clock
        self._versions: dict[str, list[PlanVersion]] = {}
        self._subscriptions: dict[str, list[Subscription]] = {}

    def load(self, connection: sa.Connection) -> None:
        """Load all plans and subscriptions. Calls meanwhile see those before or after it."""
        versions: dict[str, list[PlanVersion]] = {}
        for version in [*store.list_shipped(), *store.select_plans(connection)]:
            versions.setdefault(version.id, []).append(version)
        subscriptions: dict[str, list[Subscription]] = {}
        for subscription in store.select_all_subscriptions(connection):
            subscriptions.setdefault(subscription.organization_id, []).append(subscription)
        self._versions, self._subscriptions = versions, subscriptions
        # Last, so that whoever is led here by it finds the rest.
        self.organizations = frozenset(subscriptions)

    def find(self, organization_id: str) -> ManagedCallLimits:
        """Return the limits of the plan that is in force now; none without a plan."""
        now = self._clock.now()
        begun = [e for e in self._subscriptions.get(organization_id, ()) if e.effective_from <= now]
        current = max(begun, key=lambda each: (each.effective_from, each.version), default=None)
        if current is None or current.plan_id is None:
            return UNLIMITED
        version = find_current(self._versions.get(current.plan_id, ()), now)
        if version is None:
            return UNLIMITED
        limits = version.limits
        return ManagedCallLimits(limits.requests_per_minute or 0, limits.concurrent_requests or 0)


__all__ = ["TOPIC", "PlanLimitIndex"]
