"""Send requests over a pool of kept-alive connections."""

from __future__ import annotations

import asyncio

import msgspec

from headgate.kit.http.connection import HeadLimits
from headgate.kit.http.dial import Dialer, Resolver, create_tls_context
from headgate.kit.http.errors import ConnectCancelledError
from headgate.kit.http.exchange import UpstreamExchange
from headgate.kit.http.guard import Guard
from headgate.kit.http.message import Request
from headgate.kit.http.pool import Pool, PoolLimits
from headgate.kit.http.sweeper import Sweeper

TICK_SECONDS = 0.1
"""How often deadlines are checked; they can be exceeded by about twice this."""


class Stats(msgspec.Struct, frozen=True):
    """Count the connections of a client now; `connects` counts since its start."""

    open: int
    idle: int
    waiting: int
    connects: int


class HttpClient:
    """Implement `message.Client`. Create and use it on one running loop.

    It follows no redirects, keeps no cookies, reads no proxy variables and retries nothing. By
    default it connects to the public internet only.
    """

    def __init__(
        self,
        *,
        limits: PoolLimits | None = None,
        head_limits: HeadLimits | None = None,
        resolver: Resolver | None = None,
        ca_file: str | None = None,
        dialer: Dialer | None = None,
    ) -> None:
        limits = limits or PoolLimits()
        loop = asyncio.get_running_loop()
        dialer = dialer or Dialer(resolver or Guard(), create_tls_context(ca_file))
        self._time = loop.time
        self._pool = pool = Pool(dialer, limits, head_limits or HeadLimits())
        self._deadlines = Sweeper(loop, TICK_SECONDS, pool.check_deadlines)
        self._expiry = Sweeper(loop, limits.keepalive_seconds / 4, pool.expire_idle)

    async def send(self, request: Request) -> UpstreamExchange:
        """Send the request and wait for the response's head.

        Raise the errors of `kit.http.errors`, whatever the body's iterator raises, and ValueError
        for a request that cannot be written safely. Cancelling closes the connection; while there
        is none yet it raises `ConnectCancelledError`.
        """
        started_at = self._time()
        origin_pool = self._pool.find_origin_pool(request.origin, request.purpose)
        head = origin_pool.head.write(request)
        connection = origin_pool.take(started_at)
        if connection is None:
            try:
                connection = await self._pool.acquire(
                    request.origin, request.timeouts, request.purpose
                )
            except asyncio.CancelledError as error:
                raise ConnectCancelledError(*error.args) from None
            self._expiry.wake()
        exchange = connection.start(request, head, started_at)
        self._deadlines.wake()
        try:
            await exchange.arrival
        except BaseException:  # cancelled: the answer would reach nobody
            exchange.abort()
            raise
        if exchange.error is not None and not exchange.status:
            raise exchange.take_error()
        return exchange

    def stats(self) -> Stats:
        pool = self._pool
        return Stats(pool.open, pool.idle, pool.waiting, pool.connects)

    async def close(self) -> None:
        """Close all connections; exchanges in progress break off, later ones are refused."""
        self._deadlines.stop()
        self._expiry.stop()
        await self._pool.close()
