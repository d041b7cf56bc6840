"""Pool connections by origin, limit their number, and queue requests for the next one."""

from __future__ import annotations

import asyncio
import itertools
from collections import deque

import msgspec

from headgate.kit.http.connection import HeadLimits, UpstreamConnection
from headgate.kit.http.dial import Dialer
from headgate.kit.http.errors import (
    ConnectError,
    ConnectTimeoutError,
    DisconnectedError,
    PoolExhaustedError,
    TotalTimeoutError,
)
from headgate.kit.http.head import HeadWriter
from headgate.kit.http.message import Origin, Timeouts


class PoolLimits(msgspec.Struct, frozen=True):
    """Limit the number of connections and how long an unused one is kept."""

    connections_per_origin_max: int = 512
    connections_max: int = 2048
    waiting_max: int = 4096
    idle_max: int = 256
    keepalive_seconds: float = 30.0


class PendingAcquire:
    """Represent a request that waits for a connection.

    `outcome` yields one, or None: the right to open one.
    """

    __slots__ = ("number", "outcome")

    def __init__(self, number: int, outcome: asyncio.Future[UpstreamConnection | None]) -> None:
        self.number = number
        self.outcome = outcome


class _WaitState:
    """Note whether a request waits for others to give a connection back."""

    __slots__ = ("waits",)

    def __init__(self) -> None:
        self.waits = False


class OriginPool:
    """Hold the connections of one origin for one purpose, the last used on top. It owns them
    between exchanges. A connection opened for one purpose serves no other."""

    __slots__ = ("_pool", "head", "idle", "open", "origin", "pending", "purpose")

    def __init__(self, pool: Pool, origin: Origin, purpose: str) -> None:
        self._pool = pool
        self.origin = origin
        self.purpose = purpose
        self.head = HeadWriter(origin)
        self.idle: list[UpstreamConnection] = []
        self.open = 0
        self.pending: deque[PendingAcquire] = deque()

    def take(self, now: float) -> UpstreamConnection | None:
        """Return a kept connection that is still usable, None without one."""
        idle = self.idle
        while idle:
            connection = idle.pop()
            if connection.closed:
                continue
            unused_seconds = now - connection.seen_at
            if (
                unused_seconds < self._pool.limits.keepalive_seconds
                and unused_seconds < connection.idle_seconds_max
                and connection.is_quiet()
            ):
                return connection
            connection.drop()
        return None

    def release(self, connection: UpstreamConnection) -> None:
        """Hand the connection to the longest waiting request, keep it, or close it for lack of
        room."""
        if self.pending:
            self._pool.hand_over(self, connection)
        elif self._pool.is_starved() or len(self.idle) >= self._pool.limits.idle_max:
            connection.drop()
        else:
            self.idle.append(connection)

    def forget(self, connection: UpstreamConnection) -> None:
        if connection in self.idle:
            self.idle.remove(connection)
        self._pool.forget(self, connection)


class Pool:
    def __init__(self, dialer: Dialer, limits: PoolLimits, head_limits: HeadLimits) -> None:
        self.limits = limits
        self.connects = 0
        self.open = 0
        self.waiting = 0
        self.connections: set[UpstreamConnection] = set()
        self._origin_pools: dict[tuple[Origin, str], OriginPool] = {}
        self._dialer = dialer
        self._head_limits = head_limits
        self._loop = asyncio.get_running_loop()
        self._numbers = itertools.count()
        self._closed = False
        self._emptied: asyncio.Future[None] | None = None

    @property
    def idle(self) -> int:
        """Return how many connections are kept unused."""
        return sum(len(origin_pool.idle) for origin_pool in self._origin_pools.values())

    def is_starved(self) -> bool:
        """Return whether a request waits while the pool has no room for another connection."""
        return self.waiting > 0 and self.open >= self.limits.connections_max

    def find_origin_pool(self, origin: Origin, purpose: str = "") -> OriginPool:
        """Return the pool of an origin. Raise ValueError for a scheme that is not HTTP."""
        place = (origin, purpose)
        origin_pool = self._origin_pools.get(place)
        if origin_pool is None:
            origin_pool = self._origin_pools[place] = OriginPool(self, origin, purpose)
        return origin_pool

    async def acquire(
        self, origin: Origin, timeouts: Timeouts, purpose: str = ""
    ) -> UpstreamConnection:
        """Open a connection, or wait for the next one that is given back.

        Raise `ConnectError` and its subclasses, or `TotalTimeoutError` if that is the shorter
        deadline. A request that only waited for others gets `PoolExhaustedError`: it learned
        nothing about the origin.
        """
        seconds = min(timeouts.connect_seconds, timeouts.total_seconds)
        state = _WaitState()
        try:
            async with asyncio.timeout(seconds):
                return await self._obtain(origin, purpose, self._loop.time() + seconds, state)
        except TimeoutError:
            if timeouts.total_seconds < timeouts.connect_seconds:
                raise TotalTimeoutError.unsent(f"The exchange took {seconds} s.") from None
            if state.waits:
                message = f"No connection to {origin} was free within {seconds} s."
                raise PoolExhaustedError(message) from None
            raise ConnectTimeoutError(f"No connection to {origin} within {seconds} s.") from None

    def hand_over(self, origin_pool: OriginPool, connection: UpstreamConnection) -> None:
        """Give the connection to the first waiting request of an origin, or keep it."""
        pending = self._pop(origin_pool)
        if pending is None:
            origin_pool.release(connection)
        else:
            pending.outcome.set_result(connection)

    def forget(self, origin_pool: OriginPool, connection: UpstreamConnection) -> None:
        """Free the place of a closed socket; `_open` frees those that were never in use."""
        if connection in self.connections:
            self.connections.remove(connection)
            self._free(origin_pool)
        if self._emptied is not None and not self.connections and not self._emptied.done():
            self._emptied.set_result(None)

    def check_deadlines(self, now: float) -> bool:
        """Fail overdue exchanges; return whether any is in progress."""
        busy = [connection for connection in tuple(self.connections) if connection.check(now)]
        return bool(busy)

    def expire_idle(self, now: float) -> bool:
        """Close what has been unused for too long; return whether any connection is left."""
        for origin_pool in self._origin_pools.values():
            origin_pool.head.forget()
            for connection in origin_pool.idle:
                kept_seconds = min(self.limits.keepalive_seconds, connection.idle_seconds_max)
                if now - connection.seen_at >= kept_seconds:
                    connection.drop()
        return bool(self.connections)

    async def close(self) -> None:
        """Close every connection, refuse waiting requests, and return when the sockets are gone."""
        self._closed = True
        for origin_pool in self._origin_pools.values():
            while pending := self._pop(origin_pool):
                self._reserve(origin_pool)
                pending.outcome.set_result(None)
        for connection in tuple(self.connections):
            connection.fail(DisconnectedError("The client is closed."))
        if self.connections:
            self._emptied = self._loop.create_future()
            await self._emptied

    async def _obtain(
        self, origin: Origin, purpose: str, deadline: float, state: _WaitState
    ) -> UpstreamConnection:
        while True:
            origin_pool = self.find_origin_pool(origin, purpose)
            if self._has_room(origin_pool):
                self._reserve(origin_pool)
                return await self._open(origin_pool, deadline)
            state.waits = True
            connection = await self._wait(origin_pool)
            state.waits = False
            if connection is None:
                return await self._open(origin_pool, deadline)
            if not connection.closed:  # it may have ended since it was handed over
                if connection.is_quiet():
                    return connection
                connection.drop()

    async def _open(self, origin_pool: OriginPool, deadline: float) -> UpstreamConnection:
        """Open a connection for a reserved place, or free the place."""
        try:
            self._refuse_if_closed()
            connection = await self._dialer.dial(
                origin_pool.origin,
                lambda: UpstreamConnection(self._loop, origin_pool, self._head_limits),
                deadline=deadline,
                purpose=origin_pool.purpose,
            )
            if self._closed:
                connection.drop()
            self._refuse_if_closed()
            if connection.closed:
                raise ConnectError(f"{origin_pool.origin} closed the connection at once.")
        except BaseException:  # cancelled or failed: nobody else knows of the place
            self._free(origin_pool)
            raise
        self.connections.add(connection)
        self.connects += 1
        return connection

    async def _wait(self, origin_pool: OriginPool) -> UpstreamConnection | None:
        if self.waiting >= self.limits.waiting_max:
            raise PoolExhaustedError(f"{self.waiting} requests wait for a connection already.")
        pending = PendingAcquire(next(self._numbers), self._loop.create_future())
        origin_pool.pending.append(pending)
        self.waiting += 1
        try:
            return await pending.outcome
        except BaseException:  # cancelled, perhaps with the outcome in hand
            self._cancel(origin_pool, pending)
            raise

    def _cancel(self, origin_pool: OriginPool, pending: PendingAcquire) -> None:
        if pending in origin_pool.pending:
            origin_pool.pending.remove(pending)
            self.waiting -= 1
        if pending.outcome.cancelled():
            self._prune(origin_pool)
        elif (connection := pending.outcome.result()) is None:
            self._free(origin_pool)
        elif not connection.closed:
            origin_pool.release(connection)

    def _pop(self, origin_pool: OriginPool) -> PendingAcquire | None:
        while origin_pool.pending:
            pending = origin_pool.pending.popleft()
            self.waiting -= 1
            if not pending.outcome.done():
                return pending
        return None

    def _has_room(self, origin_pool: OriginPool) -> bool:
        if origin_pool.open >= self.limits.connections_per_origin_max:
            return False
        if self.open < self.limits.connections_max:
            return True
        self._evict()
        return False

    def _evict(self) -> None:
        """Close an unused connection of another origin to make room for a waiting request."""
        for origin_pool in self._origin_pools.values():
            for connection in origin_pool.idle:
                if not connection.closed:
                    connection.drop()
                    return

    def _reserve(self, origin_pool: OriginPool) -> None:
        origin_pool.open += 1
        self.open += 1

    def _free(self, origin_pool: OriginPool) -> None:
        origin_pool.open -= 1
        self.open -= 1
        while self.waiting and self.open < self.limits.connections_max:
            if not self._serve_next():
                break
        self._prune(origin_pool)

    def _serve_next(self) -> bool:
        """Let the longest waiting request open a connection, if its origin has room."""
        room = self.limits.connections_per_origin_max
        ready = [
            origin_pool
            for origin_pool in self._origin_pools.values()
            if origin_pool.pending and origin_pool.open < room
        ]
        if not ready:
            return False
        origin_pool = min(ready, key=lambda origin_pool: origin_pool.pending[0].number)
        pending = self._pop(origin_pool)
        if pending is not None:
            self._reserve(origin_pool)
            pending.outcome.set_result(None)
        return True

    def _prune(self, origin_pool: OriginPool) -> None:
        """Drop an origin without connections: the number of origins is unbounded."""
        if not origin_pool.open and not origin_pool.pending:
            self._origin_pools.pop((origin_pool.origin, origin_pool.purpose), None)

    def _refuse_if_closed(self) -> None:
        if self._closed:
            raise ConnectError("The client is closed.")
