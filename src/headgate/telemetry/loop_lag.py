"""Measure how late the event loop is: the time that every call waits when something blocks it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PERIOD_SECONDS = 0.05
MICROSECONDS = 1_000_000


class LoopLagMonitor:
    """Report to `observe` by how many microseconds a periodic timer fires too late.

    A delay of several periods swallows ticks. They are reported too, each with what was left of the
    delay, so that the share of late ticks is the share of time in which the loop was late.
    """

    def __init__(
        self, observe: Callable[[int], None], read_seconds: Callable[[], float] = time.perf_counter
    ) -> None:
        self._observe = observe
        self._read_seconds = read_seconds
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        self._schedule_tick(self._read_seconds())

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()

    def tick(self) -> None:
        now = self._read_seconds()
        late = max(0.0, now - self._due)
        while True:
            self._observe(int(late * MICROSECONDS))
            late -= PERIOD_SECONDS
            if late <= 0:
                break
        self._schedule_tick(now)

    def _schedule_tick(self, now: float) -> None:
        self._due = now + PERIOD_SECONDS
        self._timer = asyncio.get_running_loop().call_later(PERIOD_SECONDS, self.tick)
