"""How late the event loop is: what every call waits for when something holds the loop up."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PERIOD_SECONDS = 0.05
MICROSECONDS = 1_000_000


class LoopLagMonitor:
    """A timer that tells `observe` by how many microseconds it went off too late.

    A hold-up longer than the period has swallowed beats; they are told too, each with what was
    left of it, so that the share of late beats is the share of time in which the loop was late.
    """

    def __init__(
        self, observe: Callable[[int], None], read_seconds: Callable[[], float] = time.perf_counter
    ) -> None:
        self._observe = observe
        self._read_seconds = read_seconds
        self._due = 0.0
        self._timer: asyncio.TimerHandle | None = None

    def start(self) -> None:
        """Begin, on the running loop."""
        self._schedule_tick(self._read_seconds())

    def stop(self) -> None:
        """No more beats."""
        if self._timer is not None:
            self._timer.cancel()

    def tick(self) -> None:
        """One beat, on time or late."""
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
