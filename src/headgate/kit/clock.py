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
