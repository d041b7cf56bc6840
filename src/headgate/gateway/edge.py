"""Hold what all connections of a process share: limits, clock, allowed hosts, handler."""

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
"""How many unfinished heads of more than 2 KiB are kept; each may cost twice its size limit."""
SWEEP_SECONDS = 0.25
"""How often deadlines are checked, and so how far they can be overrun."""


class RequestHandler(Protocol):
    """Answer the requests below `/v1`."""

    def open(self, exchange: InboundExchange) -> None:
        """Judge a request by its head, and set the limit of its body and whether the body streams.

        Raise the `HeadgateError` that refuses the request.
        """
        ...

    async def run(self, exchange: InboundExchange) -> None:
        """Answer the exchange. Never raises."""
        ...

    def refuse(self, exchange: InboundExchange, error: HeadgateError) -> None:
        """Answer with an error that the edge found, whether or not `open` was called."""
        ...


class Expirable(Protocol):
    """Wait for something only until `deadline`, in loop time; 0.0 means that no deadline runs."""

    deadline: float

    def expire(self) -> None: ...


class LargeHeadConnection(Protocol):
    def refuse_large_head(self) -> None:
        """Refuse the head: others need its memory."""
        ...


class Edge:
    """Hold what the connections of a process share; there is one for each process.

    `date_line` is the current `date` header line. Only the networks of `trusted_proxies` may name a
    client's address. Without `cors`, no page of another origin may read a response.
    """

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
        """Remember a connection with a large head, and refuse the oldest of too many. An honest
        client sends its whole head at once, so the oldest is the least likely to be one."""
        self.large_heads[connection] = None
        if len(self.large_heads) > LARGE_HEADS_MAX:
            oldest = next(iter(self.large_heads))
            del self.large_heads[oldest]
            oldest.refuse_large_head()

    async def run(self, members: Iterable[Expirable]) -> None:
        """Expire overdue connections and renew the date, until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(SWEEP_SECONDS)
            self.date_line = render_date()
            now = loop.time()
            for member in [each for each in members if 0.0 < each.deadline < now]:
                member.expire()


def render_date() -> bytes:
    return b"date: %b\r\n" % email.utils.formatdate(usegmt=True).encode()
