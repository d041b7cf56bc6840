"""Watch the files of the database and the length of its write-ahead log."""

from __future__ import annotations

import structlog

from headgate.kit.db.engine import Database
from headgate.kit.db.writer import Writer

PERIOD_SECONDS = 1.0

log = structlog.get_logger(__name__)


class StorageMonitor:
    """Warn above `wal_alarm_bytes` and stop taking calls above `wal_bytes_max`. A reader that does
    not end keeps the write-ahead log growing until the disk is full."""

    def __init__(
        self, database: Database, writer: Writer, *, wal_alarm_bytes: int, wal_bytes_max: int
    ) -> None:
        self._database = database
        self._writer = writer
        self._wal_alarm_bytes = wal_alarm_bytes
        self._wal_bytes_max = wal_bytes_max
        self._wal_bytes = 0

    async def check(self) -> None:
        """Look for deleted or replaced files, and at the log. Run every `PERIOD_SECONDS`."""
        await self._writer.examine_files()
        before, self._wal_bytes = self._wal_bytes, self._database.wal_bytes
        alarm = self._wal_alarm_bytes
        if (self._wal_bytes > alarm) is not (before > alarm):
            log.warning("storage.wal", bytes=self._wal_bytes, alarm_bytes=alarm)
        self._writer.health.overgrown = self._wal_bytes > self._wal_bytes_max
