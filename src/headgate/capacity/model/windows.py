"""The windows in which limits count: minutes, hours, days, weeks and months in UTC.

All windows begin at the same time everywhere, so that processes need no agreement about it, and a
refusal can say when the next one begins.
"""

from __future__ import annotations

import datetime
import functools
import hashlib
import math

import msgspec

from headgate.relay.capacity_limits import LIFETIME, CapacityLimit, WindowUsage
from headgate.relay.ports import Credential

SECONDS = {"minute": 60, "hour": 3600, "day": 86_400, "week": 7 * 86_400}
MONDAY_SECONDS = 4 * 86_400
"""1970 began with a Thursday; the first Monday came four days later."""
UNKNOWN = "unknown"
"""The bucket of calls that do not tell the value of their dimension."""
BUCKET_CHARACTERS_MAX = 128
MANAGED_NAME = "The platform's credential"
SUBJECT = {"key": "This key", "resource": "The resource {name!r}", "credential": "{name}"}


class WindowKey(msgspec.Struct, frozen=True):
    """Identify one window: the limit of one object, the value of its dimension, and the begin in
    unix seconds (0 for the lifetime)."""

    level: str
    owner_id: str
    limit: str
    bucket: str
    starts_at: int


class CapacityWindow(msgspec.Struct):
    """Count the requests and tokens of one window.

    The counts are all that this process knows of. `unstored` is the part of them that the database
    does not have yet.
    """

    key: WindowKey
    ends_at: float | None
    requests: int = 0
    tokens: int = 0
    unstored_requests: int = 0
    unstored_tokens: int = 0

    def add(self, requests: int, tokens: int) -> None:
        self.requests += requests
        self.tokens += tokens
        self.unstored_requests += requests
        self.unstored_tokens += tokens

    def has_ended(self, now: float) -> bool:
        return self.ends_at is not None and self.ends_at <= now


class StoredCount(msgspec.Struct, frozen=True):
    """Hold what the database has of a window."""

    key: WindowKey
    ends_at: float | None
    requests: int
    tokens: int


class CountedLimit(msgspec.Struct, frozen=True):
    """Hold one limit of an object, or several of one period and dimension, of which the least
    counts. `name` tells it from the object's others, and stays the same when its numbers change."""

    name: str
    period: str
    requests: int | None
    tokens: int | None
    dimension: str | None = None
    dimension_field: str | None = None
    discovered: bool = False


@functools.lru_cache(maxsize=8192)
def count_limits(limits: tuple[CapacityLimit, ...]) -> tuple[CountedLimit, ...]:
    """Return what has to be counted for the limits of an object."""
    found: dict[str, CountedLimit] = {}
    for limit in limits:
        name = name_limit(limit)
        before = found.get(name)
        requests, tokens = limit.requests, limit.tokens
        if before is not None:
            requests, tokens = _least(before.requests, requests), _least(before.tokens, tokens)
        found[name] = CountedLimit(
            name,
            limit.period,
            requests,
            tokens,
            limit.dimension,
            limit.dimension_field,
            limit.discovered,
        )
    return tuple(found.values())


def name_limit(limit: CapacityLimit) -> str:
    if limit.discovered:
        return f"{limit.period}/discovered"
    if limit.dimension is None:
        return limit.period
    field = f":{limit.dimension_field}" if limit.dimension_field else ""
    return f"{limit.period}/{limit.dimension}{field}"


def find_window(period: str, now: float) -> tuple[int, float | None]:
    """Return when the window of a time began and will end, in unix seconds; 0 and None for the
    lifetime."""
    if period == LIFETIME:
        return 0, None
    if period == "month":
        return _find_month(now)
    seconds = SECONDS[period]
    offset = MONDAY_SECONDS if period == "week" else 0
    start = int((now - offset) // seconds) * seconds + offset
    return start, float(start + seconds)


def _find_month(now: float) -> tuple[int, float]:
    begin = datetime.datetime.fromtimestamp(now, datetime.UTC).replace(
        day=1, hour=0, minute=0, second=0, microsecond=0
    )
    following = (begin + datetime.timedelta(days=32)).replace(day=1)
    return int(begin.timestamp()), following.timestamp()


def name_bucket(value: object) -> str:
    """Return the bucket of a dimension's value, which is short whatever the value is."""
    text = value if isinstance(value, str) else ("" if value is None else str(value))
    if not text:
        return UNKNOWN
    if len(text) > BUCKET_CHARACTERS_MAX:
        return "sha256:" + hashlib.sha256(text.encode("utf-8", "replace")).hexdigest()
    return text.replace("\0", " ")


def _least(first: int | None, second: int | None) -> int | None:
    known = [each for each in (first, second) if each is not None]
    return min(known, default=None)


class Denied(msgspec.Struct, frozen=True):
    """Say which limit refused a call: what it counts, how much of it was used and needed."""

    counted: CountedLimit
    level: str
    name: str
    bucket: str
    unit: str
    limit: int
    used: int
    needed: int
    wait_seconds: float | None


def find_denied_unit(
    counted: CountedLimit, requests: int, tokens: int, needed: int
) -> tuple[str, int, int] | None:
    """Return the unit, limit and use that refuse one more request with so many tokens; None where
    it fits."""
    if counted.requests is not None and requests + 1 > counted.requests:
        return "requests", counted.requests, requests
    if counted.tokens is not None and tokens + max(1, needed) > counted.tokens:
        return "tokens", counted.tokens, tokens
    return None


def explain(denied: Denied) -> str:
    """Return the message of a refusal."""
    counted = denied.counted
    subject = SUBJECT[denied.level].format(name=denied.name)
    period = "in its lifetime" if counted.period == LIFETIME else f"per {counted.period}"
    text = f"{subject} may use {denied.limit} {denied.unit} {period}{_describe_bucket(denied)}"
    text += f", and {denied.used} are used."
    if denied.unit == "tokens":
        text += f" This call needs at least {max(1, denied.needed)}."
        if denied.needed > denied.limit:
            return text + " It can never fit: send less input, or raise the limit."
    if denied.wait_seconds is None:
        return text + " This limit never resets: raise it, or use another one."
    return text + f" Try again in {max(1, math.ceil(denied.wait_seconds))} seconds."


def _describe_bucket(denied: Denied) -> str:
    counted = denied.counted
    if counted.discovered:
        return f" for the model {denied.bucket!r}, as its provider announced"
    if counted.dimension is None:
        return ""
    if counted.dimension_field:
        return f" for the {counted.dimension_field} {denied.bucket!r} in the metadata"
    return f" for the client address {denied.bucket}"


class WindowState(msgspec.Struct, frozen=True):
    """Hold what is used of a limit for people to see. `bucket` is empty without a dimension."""

    counted: CountedLimit
    bucket: str
    usage: WindowUsage
    ends_at: float | None


def name_credential(credential: Credential) -> str:
    """Return what a credential is called at the beginning of a refusal."""
    return MANAGED_NAME if credential.managed else f"The credential {credential.name!r}"
