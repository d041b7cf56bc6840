"""Tell the time by the clock that all processes of a database share."""

from __future__ import annotations

from headgate.kit.clock import Clock
from headgate.kit.db.engine import Database


class DatabaseClock:
    """Tell the time of the database's server; the time of this machine where one process has the
    database to itself. Between two looks at the server, the monotonic clock goes on, so that a
    change of this machine's time ends no lease."""

    def __init__(self, clock: Clock, database: Database) -> None:
        self._clock = clock
        self._database = database
        self._is_read = False
        self._epoch: float | None = None
        self.monotonic = clock.monotonic

    def now(self) -> float:
        if not self._is_read:
            self.adjust()
        if self._epoch is None:
            return self._clock.now()
        return self._epoch + self.monotonic()

    def adjust(self) -> float | None:
        """Read the database's clock; blocks. Return its time, None for a single process. Raise
        `StorageUnavailableError`."""
        shared = self._database.read_clock()
        self._epoch = None if shared is None else shared - self.monotonic()
        self._is_read = True
        return shared
