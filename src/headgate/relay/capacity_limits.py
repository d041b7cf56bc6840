"""Describe limits of capacity, as keys, resources and credentials carry them."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

CREDENTIAL = "credential"
RESOURCE = "resource"
KEY = "key"
LEVELS = (KEY, RESOURCE, CREDENTIAL)
"""The objects that limits belong to, in the order in which they are checked."""
MINUTE = "minute"
LIFETIME = "lifetime"
PERIODS = (MINUTE, "hour", "day", "week", "month", LIFETIME)
SOURCE_IP = "source-ip"
METADATA = "metadata"


class CapacityLimit(msgspec.Struct, frozen=True):
    """Limit the requests and tokens of one period of `PERIODS`. None limits nothing.

    With a `dimension` each value counts apart: each address of a client (`source-ip`), or each
    value of the field `dimension_field` of the call's metadata (`metadata`). With `discovered` the
    limits are those per minute that the provider announced for the model of the call.
    """

    period: str
    requests: int | None = None
    tokens: int | None = None
    dimension: str | None = None
    dimension_field: str | None = None
    discovered: bool = False


Period = Literal["minute", "hour", "day", "week", "month", "lifetime"]
LimitNumber = Annotated[int, Meta(ge=0, le=2**53 - 1)]


class CapacityEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Limit requests and tokens in a period, in total or for each value of `dimension`. With
    `discovered`, the limits are those that the provider announced for each model."""

    period: Period
    requests: LimitNumber | None = None
    tokens: LimitNumber | None = None
    enabled: bool = True
    dimension: Literal["source-ip", "metadata"] | None = None
    dimension_field: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    discovered: bool = False


CapacityEntries = Annotated[list[CapacityEntry], Meta(max_length=50)]


class WindowUsage(msgspec.Struct, frozen=True):
    """Show how much of a limit is used in its current window. `remaining_seconds` is None for the
    lifetime, which does not end."""

    period: str
    requests_limit: int | None
    tokens_limit: int | None
    requests_used: int
    tokens_used: int
    remaining_seconds: float | None

    @property
    def requests_usage_percent(self) -> float:
        return _percent(self.requests_used, self.requests_limit)

    @property
    def tokens_usage_percent(self) -> float:
        return _percent(self.tokens_used, self.tokens_limit)

    @property
    def remaining_requests(self) -> int | None:
        return _remaining(self.requests_used, self.requests_limit)

    @property
    def remaining_tokens(self) -> int | None:
        return _remaining(self.tokens_used, self.tokens_limit)


def read_limits(entries: Iterable[CapacityEntry]) -> tuple[CapacityLimit, ...]:
    """Return the limits that are enabled and limit something."""
    return tuple(
        CapacityLimit(
            entry.period,
            entry.requests,
            entry.tokens,
            entry.dimension,
            entry.dimension_field,
            entry.discovered,
        )
        for entry in entries
        if entry.enabled
        and (entry.requests is not None or entry.tokens is not None or entry.discovered)
    )


def find_invalid_limit(
    entries: Iterable[CapacityEntry], *, of_credential: bool
) -> tuple[int, str] | None:
    """Return the position of the first entry that contradicts itself, and what is wrong with it."""
    for index, entry in enumerate(entries):
        problem = _find_problem(entry)
        if problem is None and entry.discovered and not of_credential:
            problem = "Providers announce limits of credentials only."
        if problem is not None:
            return index, problem
    return None


def _find_problem(entry: CapacityEntry) -> str | None:
    if entry.dimension == METADATA and not entry.dimension_field:
        return "A limit by `metadata` needs `dimension_field`, the field that it counts by."
    if entry.dimension != METADATA and entry.dimension_field:
        return "Only a limit by `metadata` has a `dimension_field`."
    if not entry.discovered:
        return None
    if entry.period != MINUTE or entry.dimension is not None:
        return "What providers announce is per minute, and for all callers together."
    if entry.requests is not None or entry.tokens is not None:
        return "A discovered limit has no numbers of its own: the provider announces them."
    return None


def _percent(used: int, limit: int | None) -> float:
    """Return the share of a limit that is used; 0 without one, 100 where nothing is allowed."""
    if limit is None:
        return 0.0
    return 100.0 * used / limit if limit else 100.0


def _remaining(used: int, limit: int | None) -> int | None:
    return None if limit is None else max(0, limit - used)
