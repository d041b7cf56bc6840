"""What rules may ask about the state of targets: their errors, and how far their limits are
used."""

from __future__ import annotations

from typing import Any, Protocol

import msgspec

WINDOW_MINUTES = 10
"""The window of an error rate that names none."""
WINDOW_MINUTES_MAX = 60
PERIODS = ("minute", "hour", "day", "week", "month", "lifetime")


class CapacityState(msgspec.Struct, frozen=True, rename="camel", kw_only=True):
    """Hold how far the limits of one period are used, each kind by the limit that is nearest to its
    end.

    What depends on a limit is None where there is none. Percentages are from 0 to 100.
    """

    total_requests: int = 0
    total_tokens: int = 0
    requests_limit: int | None = None
    tokens_limit: int | None = None
    requests_limit_source: str | None = None
    tokens_limit_source: str | None = None
    remaining_requests: int | None = None
    remaining_tokens: int | None = None
    requests_usage_percent: float | None = None
    tokens_usage_percent: float | None = None
    remaining_seconds: int | None = None
    limits: list[dict[str, Any]] = []
    """All limits of the period: level, requests and tokens that are allowed and used."""


class LiveValues(Protocol):
    """Tell the live state of the targets of one resource, from memory.

    A `connection` is the id or name of a credential, a `model` its id there; None stands for the
    resource's own model.
    """

    def error_rate(
        self, window_minutes: int, status: int | None, connection: str | None, model: str | None
    ) -> float | None:
        """Return the percentage of calls that failed in the last minutes, only those with a
        `status` where one is given. Return 0 without any call, None where the target is not
        known."""
        ...

    def capacity_usage(
        self, period: str, connection: str | None, model: str | None
    ) -> CapacityState | None:
        """Return how far the limits are used in the current period; None where the target is not
        known."""
        ...


class NoLiveValues:
    """Know no live state: nothing failed, and nothing is limited."""

    def error_rate(
        self, window_minutes: int, status: int | None, connection: str | None, model: str | None
    ) -> float | None:
        return 0.0

    def capacity_usage(
        self, period: str, connection: str | None, model: str | None
    ) -> CapacityState | None:
        return CapacityState()
