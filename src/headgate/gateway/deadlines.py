"""Set the deadlines of a connection: to send heads and bodies, and to read responses."""

from __future__ import annotations

import asyncio
import math
import sys
from typing import Any

from uvicorn.config import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from headgate.gateway.edge import Edge
from headgate.gateway.exchange import InboundExchange


class DeadlineProtocol(HttpToolsProtocol):
    """Keep one deadline for a connection, which `Edge.run` checks; 0.0 when nothing is waited for.

    Arriving pieces never read the clock. A body's bytes are counted, and only a deadline that has
    passed looks whether they were enough to move it.
    """

    def __init__(
        self,
        config: Config,
        server_state: ServerState,
        app_state: dict[str, Any],
        _loop: asyncio.AbstractEventLoop | None = None,
        *,
        edge: Edge,
    ) -> None:
        super().__init__(config, server_state, app_state, _loop)
        self._edge = edge
        self._limits = edge.limits
        self._time = self.loop.time
        self._in_body = False
        self._body_bytes = 0
        self._body_until = math.inf
        self._unsent_bytes = 0
        self.parser: Any
        self.cycle: Any = None
        self.deadline = 0.0

    def _await_body(self, exchange: InboundExchange) -> None:
        """Start the deadline of a body; one that is held whole has an absolute limit, too."""
        if not exchange.body_complete and not self.flow.write_paused:
            self._start_body(math.inf if exchange.may_take_long else self._limits.body_seconds)

    def _start_body(self, seconds: float) -> None:
        now = self._time()
        self._body_bytes = 0
        self._body_until = now + seconds
        self.deadline = now + min(self._limits.body_grace_seconds, seconds)

    def _extend_body(self) -> bool:
        """Extend the deadline by the bytes received, and return whether the body may go on."""
        limits = self._limits
        # No more than the grace is earned, so a burst cannot buy a long silence.
        earned = min(self._body_bytes / limits.body_bytes_per_second_min, limits.body_grace_seconds)
        self._body_bytes = 0
        self.deadline = min(self.deadline + earned, self._body_until)
        return self.deadline > self._time()

    def _close(self) -> None:
        """Close once the client has taken what is written, or will take no more of it."""
        if not self.transport.is_closing():
            self.transport.close()
            self._watch_write()

    def _watch_write(self) -> None:
        # The first check notes how much is unsent, the second one cuts a client that took nothing.
        self._unsent_bytes = sys.maxsize
        self.deadline = self._time() + self._limits.write_seconds / 2

    def _expire_write(self) -> None:
        """Cut a client that takes nothing; one that takes a little may be slow."""
        unsent_bytes = self.transport.get_write_buffer_size()
        if unsent_bytes < self._unsent_bytes:
            self._unsent_bytes = unsent_bytes
            self.deadline = self._time() + self._limits.write_seconds / 2
        else:
            self.transport.abort()
