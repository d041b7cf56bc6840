"""Pass time in, never global, so that tests can control it."""

from __future__ import annotations

import time
from typing import Protocol


class Clock(Protocol):
    """Tell the time. `now` may jump; `monotonic` never runs backwards."""

    def now(self) -> float:
        """Return seconds since 1970 in UTC: for records, expiry and months."""
        ...

    def monotonic(self) -> float:
        """Return seconds since an arbitrary start: for deadlines, durations and rates."""
        ...


class SystemClock:
    now = staticmethod(time.time)
    monotonic = staticmethod(time.monotonic)


class SteadyClock:
    """Provide a `now` that never goes back. What has expired must not become valid again when the
    machine's clock is set back."""

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now
        self.monotonic = clock.monotonic
        self._latest = 0.0

    def now(self) -> float:
        """Return the greatest time seen so far."""
        self.raise_to(self._now())
        return self._latest

    def raise_to(self, seconds: float) -> None:
        self._latest = max(self._latest, seconds)
