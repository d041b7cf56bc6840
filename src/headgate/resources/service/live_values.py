"""Tell the rules of a resource the live state of its targets: errors and the usage of limits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec

from headgate.relay.capacity import CapacityUsage
from headgate.relay.capacity_limits import CREDENTIAL, KEY, RESOURCE, CapacityLimit, WindowUsage
from headgate.relay.ports import Credential, Grant
from headgate.relay.request_log import ALL_ATTEMPTS, AttemptFilter, ErrorRates
from headgate.resources.model.live import CapacityState, LiveValues
from headgate.resources.model.slot import ModelSlot

FindCredential = Callable[[str, str], Credential | None]
"""Finds the credential of an organization by its id or name, without using it."""


class RuleSubject(msgspec.Struct, frozen=True):
    """Hold what live values depend on: the resource's own model and its limits. `id` is empty for a
    resource that exists in a request only; `capacity` are the limits that are enforced."""

    slot: ModelSlot
    id: str = ""
    capacity: tuple[CapacityLimit, ...] = ()


class NoErrorRates:
    """Know no attempts (`ErrorRates`)."""

    def find(
        self, project_id: str, wanted: AttemptFilter = ALL_ATTEMPTS, *, minutes: int = 10
    ) -> float:
        return 0.0


class NoCapacityUsage:
    """Know no limits (`CapacityUsage`)."""

    def find(
        self, level: str, owner_id: str, limits: Sequence[CapacityLimit], period: str
    ) -> WindowUsage | None:
        return None


def find_no_credential(_organization_id: str, _name: str) -> Credential | None:
    return None


class LiveValuesSource:
    """Make what the rules of a resource ask about the state of its targets."""

    def __init__(
        self,
        *,
        error_rates: ErrorRates | None = None,
        capacity: CapacityUsage | None = None,
        find_credential: FindCredential = find_no_credential,
    ) -> None:
        self._error_rates: ErrorRates = error_rates or NoErrorRates()
        self._capacity: CapacityUsage = capacity or NoCapacityUsage()
        self._find_credential = find_credential

    def make(self, grant: Grant, subject: RuleSubject) -> LiveValues:
        """Return the live values for the calls of a key to a resource."""
        return ResourceLiveValues(
            self._error_rates, self._capacity, self._find_credential, grant, subject
        )


class ResourceLiveValues:
    """Tell the live state of the targets of one resource (`LiveValues`)."""

    def __init__(
        self,
        error_rates: ErrorRates,
        capacity: CapacityUsage,
        find_credential: FindCredential,
        grant: Grant,
        subject: RuleSubject,
    ) -> None:
        self._error_rates = error_rates
        self._capacity = capacity
        self._find_credential = find_credential
        self._grant = grant
        self._subject = subject

    def error_rate(
        self, window_minutes: int, status: int | None, connection: str | None, model: str | None
    ) -> float | None:
        subject = self._subject
        wanted = AttemptFilter(
            resource_id=subject.id or None,
            credential=connection or find_reference(subject.slot),
            model=model or subject.slot.model,
            status=status,
        )
        return self._error_rates.find(self._grant.project_id, wanted, minutes=window_minutes)

    def capacity_usage(
        self, period: str, connection: str | None, model: str | None
    ) -> CapacityState | None:
        """Return the usage of the limits of key, resource and credential together."""
        grant, subject = self._grant, self._subject
        name = connection or find_reference(subject.slot)
        credential = None
        if name is not None:
            credential = self._find_credential(grant.organization_id, name)
            if credential is None:
                return None
        owners = [(KEY, grant.key_id, grant.capacity), (RESOURCE, subject.id, subject.capacity)]
        if credential is not None:
            owners.append((CREDENTIAL, credential.id, credential.capacity))
        found = [
            (level, usage)
            for level, owner_id, limits in owners
            if limits
            and (usage := self._capacity.find(level, owner_id, limits, period)) is not None
        ]
        return join_usage(found)


def find_reference(slot: ModelSlot) -> str | None:
    """Return the id or name of the credential of a slot, the first one of several."""
    first = slot.credentials[0] if slot.credentials else slot
    return first.credential_id or first.credential_name


def join_usage(found: Sequence[tuple[str, WindowUsage]]) -> CapacityState:
    """Return the usage of several levels: requests and tokens each by the limit that is nearest to
    its end."""
    by_requests = [each for each in found if each[1].requests_limit is not None]
    by_tokens = [each for each in found if each[1].tokens_limit is not None]
    requests = max(by_requests, key=lambda each: each[1].requests_usage_percent, default=None)
    tokens = max(by_tokens, key=lambda each: each[1].tokens_usage_percent, default=None)
    waits = [each.remaining_seconds for _, each in found if each.remaining_seconds is not None]
    fields: dict[str, Any] = {
        "remaining_seconds": int(min(waits)) if waits else None,
        "limits": [describe_limit(level, usage) for level, usage in found],
        "total_requests": max((each.requests_used for _, each in found), default=0),
        "total_tokens": max((each.tokens_used for _, each in found), default=0),
    }
    if requests is not None:
        level, usage = requests
        fields |= {
            "total_requests": usage.requests_used,
            "requests_limit": usage.requests_limit,
            "requests_limit_source": level,
            "remaining_requests": usage.remaining_requests,
            "requests_usage_percent": min(100.0, usage.requests_usage_percent),
        }
    if tokens is not None:
        level, usage = tokens
        fields |= {
            "total_tokens": usage.tokens_used,
            "tokens_limit": usage.tokens_limit,
            "tokens_limit_source": level,
            "remaining_tokens": usage.remaining_tokens,
            "tokens_usage_percent": min(100.0, usage.tokens_usage_percent),
        }
    return CapacityState(**fields)


def describe_limit(level: str, usage: WindowUsage) -> dict[str, Any]:
    return {
        "level": level,
        "period": usage.period,
        "requests": usage.requests_limit,
        "tokens": usage.tokens_limit,
        "usedRequests": usage.requests_used,
        "usedTokens": usage.tokens_used,
    }
