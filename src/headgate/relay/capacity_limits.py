"""Describe limits of capacity, as keys, resources and credentials carry them."""

from __future__ import annotations

import msgspec

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


def _percent(used: int, limit: int | None) -> float:
    """Return the share of a limit that is used; 0 without one, 100 where nothing is allowed."""
    if limit is None:
        return 0.0
    return 100.0 * used / limit if limit else 100.0


def _remaining(used: int, limit: int | None) -> int | None:
    return None if limit is None else max(0, limit - used)
