"""What happens when a caller goes away before its answer is whole.

The answer is read on for a short while, for its end carries the exact usage; then the provider is
told to stop by closing its connection, and the call is settled with what was delivered.
"""

from __future__ import annotations

import asyncio

from headgate.relay.call import Caller, Flow


class Drains:
    """How long, and for how many callers at once, answers are read that nobody waits for."""

    def __init__(self, *, drain_seconds: float, drains_max: int) -> None:
        self.drain_seconds = drain_seconds
        self.drains_max = drains_max
        self.active = 0

    def begin(self) -> float:
        """Count one more; the seconds it may take, 0.0 when there are too many."""
        self.active += 1
        return self.drain_seconds if self.active <= self.drains_max else 0.0

    def end(self) -> None:
        """One less."""
        self.active -= 1


class Attendance:
    """Hears of the caller for the time of one call; ends the work for one that left."""

    __slots__ = ("_caller", "_drains", "_timer", "flow", "left")

    def __init__(self, caller: Caller, drains: Drains) -> None:
        self._caller = caller
        self._drains = drains
        self._timer: asyncio.TimerHandle | None = None
        self.flow: Flow | None = None
        self.left = False

    def begin(self) -> None:
        """From now on a caller's leaving is acted upon."""
        self._caller.attend(self)
        if self._caller.gone:
            self.leave()

    def end(self) -> None:
        """The answer is here, or given up: leaving changes nothing any more."""
        self._caller.attend(None)
        if self._timer is not None:
            self._timer.cancel()
            self._drains.end()

    def pause(self) -> None:
        """See `Attendant`."""
        if self.flow is not None and not self.left:
            self.flow.pause()

    def resume(self) -> None:
        """See `Attendant`."""
        if self.flow is not None:
            self.flow.resume()

    def leave(self) -> None:
        """See `Attendant`."""
        if self.left:
            return
        self.left = True
        self.resume()
        loop = asyncio.get_running_loop()
        self._timer = loop.call_later(self._drains.begin(), self._caller.abandon)
