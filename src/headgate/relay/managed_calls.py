"""Limit the managed calls of organizations to what their plans allow, in memory, per process."""

from __future__ import annotations

from collections.abc import Container

import msgspec

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.rate_limiter import RateLimiter
from headgate.relay.call import Call
from headgate.relay.ports import ManagedCallLimits, OrganizationLimits

RETRY_SECONDS = 1.0


class PlanConcurrencyError(HeadgateError):
    """The organization runs as many managed calls as its plan allows.

    Let some of them end first, change the plan, or use an own credential.
    """

    kind = Kind.LIMITED
    code = "rate_limited"

    def __init__(self, limit: int, running: int) -> None:
        super().__init__(
            f"The plan of this organization allows {limit} managed calls at a time, and {running} "
            "run. Let some of them end first.",
            retry_after_seconds=RETRY_SECONDS,
        )
        self.limit = limit
        self.running = running


class LimitedOrganization(msgspec.Struct, frozen=True):
    """Present an organization to the rate limiter (`kit.rate_limiter.LimitedKey`)."""

    key_id: str
    requests_per_minute: int
    tokens_per_minute: int = 0


class NoLimits:
    """Have no limits for anybody (`relay.ports.OrganizationLimits`)."""

    organizations: Container[str] = frozenset[str]()

    def find(self, organization_id: str) -> ManagedCallLimits:
        return ManagedCallLimits()


NO_LIMITS: OrganizationLimits = NoLimits()


class ManagedCallLimiter:
    """Admit managed calls by the limits of their organization's plan."""

    def __init__(self, clock: Clock, limits: OrganizationLimits = NO_LIMITS) -> None:
        self._limits = limits
        self._rates = RateLimiter(clock, subject="The plan of this organization allows")
        self._running: dict[str, int] = {}

    def admit(self, call: Call) -> None:
        """Count a managed call. One with a place among the concurrent ones keeps it until
        `release`. Raise `RateLimitedError` or `PlanConcurrencyError`, and then count nothing."""
        organization_id = call.grant.organization_id
        if organization_id not in self._limits.organizations:
            return
        limits = self._limits.find(organization_id)
        running = self._running.get(organization_id, 0)
        if limits.concurrent_requests and running >= limits.concurrent_requests:
            raise PlanConcurrencyError(limits.concurrent_requests, running)
        if limits.requests_per_minute:
            self._rates.take(LimitedOrganization(organization_id, limits.requests_per_minute))
        if limits.concurrent_requests:
            self._running[organization_id] = running + 1
            call.has_plan_place = True

    def release(self, call: Call) -> None:
        """Give the place of a call back."""
        call.has_plan_place = False
        organization_id = call.grant.organization_id
        running = self._running[organization_id] - 1
        if running:
            self._running[organization_id] = running
        else:
            del self._running[organization_id]
