"""Handle a client that disconnects before its answer is complete (decision 0006).

The key's policy decides. `cancel` closes the provider's connection at once, and settles the call
with what was delivered. `drain` reads the answer to its end, which carries the exact usage, for a
limited time and for a limited number of clients at once; beyond that it acts as `cancel`.
"""

from __future__ import annotations

import asyncio

from headgate.relay.call import Caller, FlowControl
from headgate.relay.call_state import ClientDisconnectedError
from headgate.relay.ports import DisconnectPolicy


class Drains:
    """Limit the answers that are read to their end for clients that have disconnected. `policy`
    applies to keys without one of their own."""

    def __init__(self, *, policy: DisconnectPolicy, drain_seconds: float, drains_max: int) -> None:
        self.policy = policy
        self.drain_seconds = drain_seconds
        self.drains_max = drains_max
        self.active = 0

    def try_start(self, policy: DisconnectPolicy | None) -> bool:
        """Return whether an answer may be drained; if so it is counted until `finish`."""
        if (policy or self.policy) is DisconnectPolicy.CANCEL or self.active >= self.drains_max:
            return False
        self.active += 1
        return True

    def finish(self) -> None:
        self.active -= 1


class DisconnectHandler:
    """Listen to the client of one call, and end the work for one that disconnected."""

    __slots__ = (
        "_caller",
        "_draining",
        "_drains",
        "_flow",
        "_policy",
        "_sleeping",
        "_slow",
        "_timer",
        "disconnected",
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
        self.disconnected = False

    def start(self) -> None:
        """Listen from now on; a client that is gone already is handled at once."""
        self._caller.set_listener(self)
        if self._caller.gone:
            self.connection_lost()

    def attach(self, flow: FlowControl) -> None:
        """Pass the client's pauses on to an answer, also one that is in force already."""
        self._flow = flow
        if self._slow and not self.disconnected:
            flow.pause()

    async def sleep(self, seconds: float) -> None:
        """Wait between two attempts.

        Raise `ClientDisconnectedError`, or is cancelled, when the client is gone: an attempt that
        is under way may still bring its usage, a new one is pointless.
        """
        if self.disconnected:
            raise ClientDisconnectedError("The client disconnected.")
        self._sleeping = True
        await asyncio.sleep(seconds)
        self._sleeping = False

    def stop(self) -> None:
        """Stop listening: the answer is complete, or given up."""
        self._flow = None
        self._caller.set_listener(None)
        if self._timer is not None:
            self._timer.cancel()
        if self._draining:
            self._drains.finish()

    def pause(self) -> None:
        self._slow = True
        if self._flow is not None and not self.disconnected:
            self._flow.pause()

    def resume(self) -> None:
        self._slow = False
        if self._flow is not None:
            self._flow.resume()

    def connection_lost(self) -> None:
        if self.disconnected:
            return
        self.disconnected = True
        # Nobody reads any more, so nothing may wait for a reader.
        self.resume()
        # Between two attempts there is no answer to drain.
        self._draining = not self._sleeping and self._drains.try_start(self._policy)
        # Also without a drain the task is cancelled by the loop, never inside this callback.
        self._timer = asyncio.get_running_loop().call_later(
            self._drains.drain_seconds if self._draining else 0.0, self._caller.abandon
        )
