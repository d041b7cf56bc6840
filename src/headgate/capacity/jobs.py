"""Exchange counts with the database, so that they survive restarts and other processes see them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence

import sqlalchemy as sa

from headgate.capacity.model.windows import StoredCount
from headgate.capacity.service.limiter import CapacityLimiter
from headgate.capacity.service.windows import Windows
from headgate.capacity.store import usage as store
from headgate.kit.clock import Clock
from headgate.kit.db.engine import Database
from headgate.kit.db.writer import Writer
from headgate.kit.jobs import Job

DELETE_SECONDS = 600.0
KEPT_SECONDS = 3600.0
"""How long the count of a window stays in the database after its end."""
MARGIN_SECONDS = 5.0
"""How much longer ago than the last look a change of another process may have been made: for
transactions that commit late."""


class UsageSync:
    """Store the counts of this process, and take over those of others where there are any."""

    def __init__(
        self,
        limiter: CapacityLimiter,
        windows: Windows,
        *,
        database: Database,
        writer: Writer,
        clock: Clock,
        is_shared: bool,
        windows_max: int,
    ) -> None:
        self._limiter = limiter
        self._windows = windows
        self._database = database
        self._writer = writer
        self._clock = clock
        self._is_shared = is_shared
        self._windows_max = windows_max
        self._read_at = 0.0

    def load(self) -> None:
        """Continue from what is stored; blocks."""
        self._read_at = now = self._clock.now()
        self._windows.take_over(self._select(now, 0.0), now)

    def list_jobs(self, period_seconds: float) -> Sequence[Job]:
        return (
            Job(name="capacity", run=self.run, period_seconds=period_seconds),
            Job(name="prune_capacity", run=self.prune, period_seconds=DELETE_SECONDS),
        )

    async def run(self) -> None:
        """Store what was counted since the last run. Raise `StorageUnavailableError`."""
        now = self._clock.now()
        self._windows.sweep(now)
        taken = self._windows.take_unstored()
        if taken:
            try:
                stored = await self._writer.call(_add(taken, now))
            except BaseException:
                self._windows.put_back(taken)
                raise
            self._take_over(stored, now)
        if self._is_shared:
            since = self._read_at - MARGIN_SECONDS
            self._read_at = now
            self._take_over(await asyncio.to_thread(self._select, now, since), now)

    async def prune(self) -> None:
        """Delete the counts of windows that ended long ago. Raise `StorageUnavailableError`."""
        before = self._clock.now() - KEPT_SECONDS
        await self._writer.call(lambda connection: store.delete_ended(connection, before=before))

    def _take_over(self, stored: Sequence[StoredCount], now: float) -> None:
        shared = self._limiter.shared
        # Valkey knows what all processes counted; the database is behind it.
        if shared is None or not shared.is_available:
            self._windows.take_over(stored, now)

    def _select(self, now: float, changed_since: float) -> list[StoredCount]:
        with self._database.reading() as connection:
            return store.select_counts(
                connection, now=now, changed_since=changed_since, limit=self._windows_max
            )


def _add(
    taken: Sequence[StoredCount], now: float
) -> Callable[[sa.Connection], Sequence[StoredCount]]:
    return lambda connection: store.add_counts(connection, taken, now=now)
