"""Check many deadlines with one coarse timer, which stops while there is nothing to check."""

from __future__ import annotations

import asyncio
from collections.abc import Callable


class Sweeper:
    """Call `sweep(now)` every `period_seconds` for as long as it returns that there is more."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        period_seconds: float,
        sweep: Callable[[float], bool],
    ) -> None:
        self._loop = loop
        self._period_seconds = period_seconds
        self._sweep = sweep
        self._timer: asyncio.TimerHandle | None = None

    @property
    def awake(self) -> bool:
        return self._timer is not None

    def wake(self) -> None:
        """Start the timer, unless it runs already."""
        if self._timer is None:
            self._timer = self._loop.call_later(self._period_seconds, self._tick)

    def stop(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _tick(self) -> None:
        self._timer = None
        if self._sweep(self._loop.time()):
            self.wake()
