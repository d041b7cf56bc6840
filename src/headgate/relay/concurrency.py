"""Who of many may go on at once: places for calls, shared fairly between keys (R4, R5).

A key may hold places only up to a few times those that are free, so whoever floods the gateway
leaves room for others, without any number set per key. While the gateway's own work makes it late,
the level falls that no key may exceed, until what is admitted is answered in time again.
"""

from __future__ import annotations

import asyncio
import time

from headgate.kit.errors import HeadgateError, Kind

SHARE = 4
"""Places that a key may hold for each free one: alone it gets four fifths of all."""
SAMPLE_SECONDS = 0.05
BUSY_SHARE = 0.8
"""The loop's thread worked for this much of a sample: being late is its own doing, and not that of
other programs on the machine, whose load goes away by no refusal of ours."""
LATE_SAMPLES = 2
"""A single late one is a large body or the collector, no overload."""
CALLS_PER_KEY_MIN = 16
FALL = 0.75
RISE = 1.1
RETRY_SECONDS = 1.0


class ConcurrencyLimitError(HeadgateError):
    kind = Kind.UNAVAILABLE
    code = "overloaded"


class TooManyConcurrentCallsError(HeadgateError):
    kind = Kind.LIMITED
    code = "too_many_calls_in_flight"


class ConcurrencyLimiter:
    """The places of one process; `calls_max` is how many calls may be under way in all."""

    def __init__(self, calls_max: int, *, lag_seconds_max: float) -> None:
        self._calls_max = calls_max
        self._lag_seconds_max = lag_seconds_max
        self._running: dict[str, int] = {}
        self._late_samples = 0
        self.running = 0
        self.calls_per_key_max = calls_max
        """The most calls that one key may have under way now."""

    def check(self, key_id: str) -> None:
        """Raise the error that says why there is no place for this key now, if there is none.

        Whoever is refused by the head of a request costs least: `acquire` decides.
        """
        running_of_key = self._running.get(key_id, 0)
        free = self._calls_max - self.running
        if running_of_key >= self.calls_per_key_max or running_of_key >= SHARE * free:
            raise self._explain(running_of_key, free)

    def acquire(self, key_id: str) -> None:
        """Take a place, or raise as `check`."""
        self.check(key_id)
        self._running[key_id] = self._running.get(key_id, 0) + 1
        self.running += 1

    def release(self, key_id: str) -> None:
        """Give the place back."""
        self.running -= 1
        running_of_key = self._running[key_id] - 1
        if running_of_key:
            self._running[key_id] = running_of_key
        else:
            del self._running[key_id]

    def adjust(self, lag_seconds: float, busy_share: float) -> None:
        """Lower the level while the loop is late by its own work, raise it while it is not."""
        if lag_seconds <= self._lag_seconds_max or busy_share < BUSY_SHARE:
            self._late_samples = 0
            self.calls_per_key_max = min(self._calls_max, int(self.calls_per_key_max * RISE) + 1)
            return
        self._late_samples += 1
        if self._late_samples >= LATE_SAMPLES:
            busiest = max(self._running.values(), default=0)
            self.calls_per_key_max = max(
                CALLS_PER_KEY_MIN, int(min(self.calls_per_key_max, busiest) * FALL)
            )

    async def watch(self) -> None:
        """Measure how late the loop is, and adjust, until cancelled."""
        while True:
            began, worked = time.monotonic(), time.thread_time()
            await asyncio.sleep(SAMPLE_SECONDS)
            elapsed = time.monotonic() - began
            self.adjust(elapsed - SAMPLE_SECONDS, (time.thread_time() - worked) / elapsed)

    def _explain(self, running_of_key: int, free: int) -> HeadgateError:
        if free <= 0 or running_of_key >= self.calls_per_key_max:
            return ConcurrencyLimitError(
                "The gateway has as many calls as it can carry. Try again in a moment.",
                retry_after_seconds=RETRY_SECONDS,
            )
        return TooManyConcurrentCallsError(
            f"This key has {running_of_key} calls under way, and only {free} places are left for "
            "all keys. Let some of them end first.",
            retry_after_seconds=RETRY_SECONDS,
        )
