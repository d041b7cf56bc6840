"""Follow the request log of an organization while it grows, in every process of a server."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable

import msgspec

from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.request_log.model.entry import RequestEntry, RequestFilter, RequestList

POLL_SECONDS = 0.5
OVERLAP_SECONDS = 10.0
"""How late a row may be written after its request ended, and still be told."""
ROWS_MAX = 500
"""How many rows one poll tells; what is more in half a second is skipped, the oldest first."""
KEEPALIVE_POLLS = 30
CHECK_POLLS = 20
"""How many polls lie between two looks at whether the reader may still read."""
TAILS_MAX = 32

Read = Callable[[RequestFilter, int], Awaitable[RequestList]]
Check = Callable[[], Awaitable[None]]


async def check_nothing() -> None:
    """Let a reader go on, who has the database itself."""


class TooManyTailsError(HeadgateError):
    """Too many readers follow the request log of this process.

    End another one, or list the requests instead.
    """

    kind = Kind.LIMITED
    code = "too_many_tails"


class RequestTails:
    """Let readers follow requests: `tails_max` of them at once, each for `seconds_max`."""

    def __init__(self, clock: Clock, *, seconds_max: int, tails_max: int = TAILS_MAX) -> None:
        self._clock = clock
        self._seconds_max = seconds_max
        self._tails_max = tails_max
        self.running = 0

    async def follow(
        self,
        read: Read,
        filters: RequestFilter,
        *,
        seconds: float,
        check: Check = check_nothing,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> AsyncIterator[list[RequestEntry]]:
        """Yield what was added, oldest first, in lists that are empty now and then, so that a
        reader notices a connection that is gone. `read` returns a page of the newest rows, and
        `check` raises for a reader who may not read any more. Raise `TooManyTailsError`."""
        if self.running >= self._tails_max:
            raise TooManyTailsError(
                f"{self._tails_max} readers follow requests already.", retry_after_seconds=5.0
            )
        self.running += 1
        try:
            limit = min(seconds, self._seconds_max)
            async for rows in self._follow(read, filters, limit, check, sleep):
                yield rows
        finally:
            self.running -= 1

    async def _follow(
        self,
        read: Read,
        filters: RequestFilter,
        seconds: float,
        check: Check,
        sleep: Callable[[float], Awaitable[None]],
    ) -> AsyncIterator[list[RequestEntry]]:
        begun = self._clock.now()
        told: dict[str, int] = {}
        idle, polls = KEEPALIVE_POLLS, 0
        while (now := self._clock.now()) - begun < seconds:
            if polls and not polls % CHECK_POLLS:
                await check()
            polls += 1
            since = max(begun, now - OVERLAP_SECONDS)
            page = await read(msgspec.structs.replace(filters, since=since), ROWS_MAX)
            fresh = [each for each in reversed(page.entries) if each.id not in told]
            told = {each.id: each.created_at for each in page.entries}
            idle += 1
            if fresh or idle > KEEPALIVE_POLLS:
                idle = 0
                yield fresh
            await sleep(POLL_SECONDS)
