"""What happens when a caller goes away before its answer is whole (decision 0006).

By the policy of its key. `cancel`: the provider is told to stop at once, by closing its connection,
and the call is settled with what was delivered. `drain`: the answer is read on to its end, which
carries the exact usage; for so long, and for so many callers at once, and else as `cancel`.
"""

from __future__ import annotations

import asyncio

from headgate.relay.call import Caller, FlowControl
from headgate.relay.call_state import ClientDisconnectedError
from headgate.relay.ports import DisconnectPolicy


class Drains:
    """How long, and for how many callers at once, answers are read that nobody waits for.

    `policy` is for keys that have none of their own.
    """

    def __init__(self, *, policy: DisconnectPolicy, drain_seconds: float, drains_max: int) -> None:
        self.policy = policy
        self.drain_seconds = drain_seconds
        self.drains_max = drains_max
        self.active = 0

    def try_start(self, policy: DisconnectPolicy | None) -> bool:
        """Whether an answer may be read on; if so it is counted, until `finish`."""
        if (policy or self.policy) is DisconnectPolicy.CANCEL or self.active >= self.drains_max:
            return False
        self.active += 1
        return True

    def finish(self) -> None:
        """One less."""
        self.active -= 1


class DisconnectHandler:
    """Hears of the caller for the time of one call; ends the work for one that left."""

    __slots__ = (
        "_caller",
        "_draining",
        "_drains",
        "_flow",
        "_policy",
        "_sleeping",
        "_slow",
        "_timer",
        "left",
    )

    def __init__(
        self, caller: Caller, drains: Drains, policy: DisconnectPolicy | None = None
    ) -> None:
        self._caller = caller
        self._drains = drains
        self._policy = policy
        self._timer: asyncio.TimerHandle | None = None
        self._flow: FlowControl | None = None
        self._draining = False
        self._sleeping = False
        self._slow = False
        self.left = False

    def start(self) -> None:
        """From now on a caller's leaving is acted upon."""
        self._caller.set_listener(self)
        if self._caller.gone:
            self.connection_lost()

    def attach(self, flow: FlowControl) -> None:
        """The answer whose speed the caller decides, who may be slow already."""
        self._flow = flow
        if self._slow and not self.left:
            flow.pause()

    async def sleep(self, seconds: float) -> None:
        """Wait between two attempts. CallerLeft, or cancelled at once, when nobody waits any more:
        an attempt that is under way may still bring its usage, a new one is pointless."""
        if self.left:
            raise ClientDisconnectedError("The caller left.")
        self._sleeping = True
        await asyncio.sleep(seconds)
        self._sleeping = False

    def stop(self) -> None:
        """The answer is here, or given up: leaving changes nothing any more."""
        self._flow = None
        self._caller.set_listener(None)
        if self._timer is not None:
            self._timer.cancel()
        if self._draining:
            self._drains.finish()

    def pause(self) -> None:
        """See `CallerListener`."""
        self._slow = True
        if self._flow is not None and not self.left:
            self._flow.pause()

    def resume(self) -> None:
        """See `CallerListener`."""
        self._slow = False
        if self._flow is not None:
            self._flow.resume()

    def connection_lost(self) -> None:
        """See `CallerListener`."""
        if self.left:
            return
        self.left = True
        self.resume()
        self._draining = not self._sleeping and self._drains.try_start(self._policy)
        self._timer = asyncio.get_running_loop().call_later(
            self._drains.drain_seconds if self._draining else 0.0, self._caller.abandon
        )
