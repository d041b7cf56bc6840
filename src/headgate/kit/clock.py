"""Time, passed in and never global, so that tests can own it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Where a component learns the time. `now` may jump; `monotonic` never runs backwards."""

    def now(self) -> float:
        """Seconds since 1970 in UTC: for records, expiry and months."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary start: for deadlines, durations and rates."""
        ...


class SystemClock:
    """The machine's own clocks."""

    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class SteadyClock:
    """A clock whose `now` never goes back, for what is over and must not begin again when the
    machine's clock is set back."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now
        self.monotonic = clock.monotonic
        self._latest = 0.0

    def now(self) -> float:
        """The greatest time that was ever seen."""
        self.raise_to(self._now())
        return self._latest

    def raise_to(self, seconds: float) -> None:
        """Take notice of a time that somebody else has seen."""
        self._latest = max(self._latest, seconds)
