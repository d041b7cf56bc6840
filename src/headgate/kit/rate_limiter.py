"""Limit the requests and tokens per minute of each key, in memory, per process.

Requests are spaced (GCRA): a key may burst up to its whole minute at once. Tokens come from a
bucket that holds a minute's worth and fills up evenly. A call passes while the bucket is not
empty; it takes an estimate at once, so that a burst cannot pass before any of it is known, and
what it really used in its place when it is settled. So a key can run into debt by what one call
used more than its estimate, and then waits until that is paid.
"""

from __future__ import annotations

from typing import Protocol

import msgspec
import structlog

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind

MINUTE = 60.0

log = structlog.get_logger(__name__)


class RateLimit(msgspec.Struct, frozen=True):
    """Describe the state of one limit.

    `unit` is `requests` or `tokens`, `remaining` what is available now, `reset_seconds` how long
    until all of `limit` is.
    """

    unit: str
    limit: int
    remaining: int
    reset_seconds: float


class RateLimitedError(HeadgateError):
    """The key has used up its requests or tokens of this minute, or its organization the managed
    calls that its plan allows.

    Wait for the seconds in `Retry-After`, raise the key's limits, or change the plan.
    """

    kind = Kind.LIMITED
    code = "rate_limited"

    def __init__(
        self, message: str, *, wait_seconds: float, rate_limits: tuple[RateLimit, ...]
    ) -> None:
        super().__init__(message, retry_after_seconds=wait_seconds)
        self.rate_limits = rate_limits


class LimitedKey(Protocol):
    @property
    def key_id(self) -> str: ...
    @property
    def requests_per_minute(self) -> int: ...
    @property
    def tokens_per_minute(self) -> int: ...


class RateLimiter:
    """Limit the rates of keys within one process.

    `subject` begins the message of a refusal. State exists only for keys that are limited: a float
    or two each. An internal fault lets the
    call pass: a limiter is no reason for an outage.
    """

    def __init__(self, clock: Clock, *, subject: str = "This key may use") -> None:
        self._now = clock.monotonic
        self._subject = subject
        self._next_at: dict[str, float] = {}
        """When the next request would be on time."""
        self._levels: dict[str, tuple[float, float]] = {}
        """Tokens in the bucket, and when they were counted."""

    def take(self, key: LimitedKey, *, tokens: int = 0) -> tuple[RateLimit, ...]:
        """Count one request, reserve the tokens that it may need, return the limits' state.

        Raise `RateLimitedError`, and then count nothing.
        """
        try:
            return self._take(key, tokens)
        except RateLimitedError:
            raise
        # A fault of the limiter's own is in the log, and in nobody's way.
        except Exception:
            log.exception("rate_limiter.fault", key_id=key.key_id)
            return ()

    def check(self, key: LimitedKey, *, with_tokens: bool) -> None:
        """Raise `RateLimitedError` where `take` would; count nothing."""
        try:
            self._check(key, self._now(), with_tokens=with_tokens)
        except RateLimitedError:
            raise
        # As in `take`.
        except Exception:
            log.exception("rate_limiter.fault", key_id=key.key_id)

    def settle(self, key: LimitedKey, *, reserved: int, used: int) -> None:
        """Replace the reserved tokens of a call by what it really used."""
        known = self._levels.get(key.key_id)
        if known is not None:
            level, at = known
            self._levels[key.key_id] = (level + reserved - used, at)

    def _take(self, key: LimitedKey, tokens: int) -> tuple[RateLimit, ...]:
        now = self._now()
        requests, bucket = key.requests_per_minute, key.tokens_per_minute
        due, level = self._check(key, now, with_tokens=tokens > 0)
        if requests:
            due += MINUTE / requests
            self._next_at[key.key_id] = due
        if bucket and tokens:
            level -= tokens
            self._levels[key.key_id] = (level, now)
        return _describe(key, due - now, level if tokens else None)

    def _check(self, key: LimitedKey, now: float, *, with_tokens: bool) -> tuple[float, float]:
        """Return when the next request would be on time, and the tokens in the bucket."""
        requests, bucket = key.requests_per_minute, key.tokens_per_minute
        due = max(self._next_at.get(key.key_id, 0.0), now)
        level = self._fill(key.key_id, bucket, now) if bucket and with_tokens else 0.0
        wait, unit = 0.0, ""
        if requests and due - now > MINUTE - MINUTE / requests:
            wait, unit = due - now - (MINUTE - MINUTE / requests), "requests"
        if bucket and with_tokens and level < 1.0:
            wait, unit = max(wait, (1.0 - level) * MINUTE / bucket), "tokens"
        if unit:
            limit = bucket if unit == "tokens" else requests
            raise RateLimitedError(
                f"{self._subject} {limit} {unit} per minute. Try again in {wait:.1f} seconds.",
                wait_seconds=wait,
                rate_limits=_describe(key, due - now, level if with_tokens else None),
            )
        return due, level

    def _fill(self, key_id: str, per_minute: int, now: float) -> float:
        level, at = self._levels.get(key_id, (float(per_minute), now))
        return min(float(per_minute), level + (now - at) * per_minute / MINUTE)


def _describe(key: LimitedKey, ahead_seconds: float, level: float | None) -> tuple[RateLimit, ...]:
    rate_limits: tuple[RateLimit, ...] = ()
    requests, tokens = key.requests_per_minute, key.tokens_per_minute
    if requests:
        left = int((MINUTE - ahead_seconds) * requests / MINUTE + 1e-6)
        rate_limits = (RateLimit("requests", requests, max(0, left), ahead_seconds),)
    if tokens and level is not None:
        missing_seconds = (tokens - level) * MINUTE / tokens
        rate_limits += (RateLimit("tokens", tokens, max(0, int(level)), missing_seconds),)
    return rate_limits
