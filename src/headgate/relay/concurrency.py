"""Limit concurrent calls, shared fairly between API keys.

A key may hold only a few times as many places as are free, so a key that floods the gateway leaves
room for others, without a number that is configured per key. While the gateway's own work delays
the event loop, the most that one key may hold falls, until calls are answered in time again.
"""

from __future__ import annotations

import asyncio
import time

from headgate.kit.errors import HeadgateError, Kind

SHARE = 4
"""Places that a key may hold for each free one: alone it gets four fifths of all."""
SAMPLE_SECONDS = 0.05
BUSY_SHARE = 0.8
"""The share of a sample that the loop's thread must have worked for the delay to count as its own.
Otherwise other programs on the machine cause the delay, and rejecting calls would not help."""
LATE_SAMPLES = 2
"""A single late sample is a large body or the garbage collector, no overload."""
CALLS_PER_KEY_MIN = 16
FALL = 0.75
RISE = 1.1
RETRY_SECONDS = 1.0


class ConcurrencyLimitError(HeadgateError):
    """The gateway carries as many calls as it can.

    Try again in a moment.
    """

    kind = Kind.UNAVAILABLE
    code = "overloaded"


class TooManyConcurrentCallsError(HeadgateError):
    """The key has too many calls under way.

    Let some of them end first.
    """

    kind = Kind.LIMITED
    code = "too_many_calls_in_flight"


class ConcurrencyLimiter:
    """Limit the concurrent calls of one process to `calls_max`, fairly between keys."""

    def __init__(self, calls_max: int, *, lag_seconds_max: float) -> None:
        self._calls_max = calls_max
        self._lag_seconds_max = lag_seconds_max
        self._running: dict[str, int] = {}
        self._late_samples = 0
        self.running = 0
        self.calls_per_key_max = calls_max
        """The most calls that one key may run now."""

    def check(self, key_id: str) -> None:
        """Raise the error that says why this key gets no place now, if it gets none. No place is
        taken: it serves to reject a call by its request head, which costs least."""
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
        self.running -= 1
        running_of_key = self._running[key_id] - 1
        if running_of_key:
            self._running[key_id] = running_of_key
        else:
            del self._running[key_id]

    def adjust(self, lag_seconds: float, busy_share: float) -> None:
        """Lower the limit per key while the loop is late by its own work, and raise it
        otherwise."""
        if lag_seconds <= self._lag_seconds_max or busy_share < BUSY_SHARE:
            self._late_samples = 0
            self.calls_per_key_max = min(self._calls_max, int(self.calls_per_key_max * RISE) + 1)
            return
        # The loop is late by its own work.
        self._late_samples += 1
        if self._late_samples >= LATE_SAMPLES:
            # From the busiest key, since a limit above what anyone uses would change nothing.
            busiest = max(self._running.values(), default=0)
            self.calls_per_key_max = max(
                CALLS_PER_KEY_MIN, int(min(self.calls_per_key_max, busiest) * FALL)
            )

    async def watch(self) -> None:
        """Measure the delay of the loop and adjust the limit, until cancelled."""
        while True:
            began, worked = time.monotonic(), time.thread_time()
            await asyncio.sleep(SAMPLE_SECONDS)
            elapsed = time.monotonic() - began
            self.adjust(elapsed - SAMPLE_SECONDS, (time.thread_time() - worked) / elapsed)

    def _explain(self, running_of_key: int, free: int) -> HeadgateError:
        if free <= 0 or running_of_key >= self.calls_per_key_max:
            return ConcurrencyLimitError(
                "The gateway runs as many calls as it can. Try again in a moment.",
                retry_after_seconds=RETRY_SECONDS,
            )
        return TooManyConcurrentCallsError(
            f"This key has {running_of_key} calls running, and only {free} more can run for all "
            "keys. Let some of them end first.",
            retry_after_seconds=RETRY_SECONDS,
        )
