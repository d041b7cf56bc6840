"""What all connections of a process share: their limits, their clock, the handler behind them."""

from __future__ import annotations

import asyncio
import email.utils
from collections.abc import Iterable
from typing import Protocol

from headgate.gateway.cors import CorsPolicy
from headgate.gateway.exchange import CorsExchange, InboundExchange
from headgate.gateway.forwarding import Networks
from headgate.gateway.hosts import HostAllowlist
from headgate.gateway.limits import EdgeLimits
from headgate.kit.errors import HeadgateError

LARGE_HEADS_MAX = 64
"""Unfinished heads of more than 2 KiB that are kept; each may cost twice its limit."""
SWEEP_SECONDS = 0.25
"""How often deadlines are looked at, and so how far they can be overrun."""


class RequestHandler(Protocol):
    """What answers the hot requests."""

    def open(self, exchange: InboundExchange) -> None:
        """The head has arrived: set the body's limit and whether it streams.

        Raises the `HeadgateError` that refuses the request by its head alone.
        """
        ...

    async def run(self, exchange: InboundExchange) -> None:
        """Answer the exchange; never raises."""
        ...

    def refuse(self, exchange: InboundExchange, error: HeadgateError) -> None:
        """Answer the exchange with an error that the edge found, whether it was opened or not."""
        ...


class Expirable(Protocol):
    """Something that may wait only so long. `deadline` is in loop time, 0.0 when none runs."""

    deadline: float

    def expire(self) -> None:
        """The deadline has passed."""
        ...


class LargeHeadConnection(Protocol):
    """A connection on which a large head arrives."""

    def refuse_large_head(self) -> None:
        """Refuse it: others need the memory."""
        ...


class Edge:
    """One for each process. `date_line` is the header line of now; `trusted_proxies` are the
    networks whose word on the client's address counts; without `cors`, no page of another origin
    may read an answer."""

    def __init__(
        self,
        handler: RequestHandler,
        limits: EdgeLimits,
        *,
        hosts: HostAllowlist,
        trusted_proxies: Networks,
        cors: CorsPolicy | None = None,
    ) -> None:
        self.handler = handler
        self.limits = limits
        self.hosts = hosts
        self.trusted_proxies = trusted_proxies
        self.cors = cors
        self.exchange_type = InboundExchange if cors is None else CorsExchange
        self.date_line = render_date()
        self.large_heads: dict[LargeHeadConnection, None] = {}
        """Connections with a large head that is not whole yet, the oldest first."""

    def track_large_head(self, connection: LargeHeadConnection) -> None:
        """Keep it beside a few others; where there are too many the oldest is given up, since
        whoever means it sends its head at once."""
        self.large_heads[connection] = None
        if len(self.large_heads) > LARGE_HEADS_MAX:
            oldest = next(iter(self.large_heads))
            del self.large_heads[oldest]
            oldest.refuse_large_head()

    async def run(self, members: Iterable[Expirable]) -> None:
        """Expire what is overdue and keep the date, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.date_line = render_date()
            now = loop.time()
            for member in [each for each in members if 0.0 < each.deadline < now]:
                member.expire()


def render_date() -> bytes:
    """The `date` header line of now."""
    return b"date: %b\r\n" % email.utils.formatdate(usegmt=True).encode()
