"""What a process does beside the calls: takes up changes, writes back, cleans up."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable, Mapping

import sqlalchemy as sa
import structlog
import uvicorn

from headgate.billing import jobs
from headgate.billing import service as billing
from headgate.billing.service import Ledger
from headgate.keys.service import flush_used
from headgate.kit.db import schema
from headgate.kit.db.engine import Database
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError
from headgate.kit.idempotency import delete_expired_responses
from headgate.main.application import Application
from headgate.metering import jobs as retention
from headgate.relay.ports import Receipt
from headgate.settings import Settings

WRITE_BACK_SECONDS = 5.0
FILES_WATCH_SECONDS = 1.0
DAY_SECONDS = 86_400
FORGET_ANSWERS_SECONDS = 600.0

log = structlog.get_logger(__name__)


class BackgroundJobs:
    """Run the periodic work of one process and answer its health check."""

    def __init__(
        self,
        settings: Settings,
        application: Application,
        *,
        writer: Writer,
        ledger: Ledger,
        server: uvicorn.Server,
        observe: Callable[[Receipt, int], None],
    ) -> None:
        self._settings = settings
        self._application = application
        self._writer = writer
        self._ledger = ledger
        self._server = server
        self._observe = observe
        self._pruner = retention.Pruner(writer)
        self._reloading = threading.Lock()
        self._wal_bytes = 0
        self._revisions: dict[str, int] = {}
        self._holds_open = 0
        self.gauges: Mapping[str, Callable[[], float]] = {
            "holds_open": lambda: self._holds_open,
            "database_bytes": lambda: application.database.file_bytes,
            "database_wal_bytes": lambda: application.database.wal_bytes,
            "storage_good": lambda: float(writer.health.is_healthy),
            "receipts_deferred": lambda: ledger.deferred,
            "master_key_outdated": lambda: float(application.has_old_master_key),
            "database_connections": lambda: count_connections(application.database),
        }
        """What can be read at any time of the stored side."""

    def check(self) -> str | None:
        """Return why the process is unhealthy; None when it is healthy."""
        if self._server.should_exit:
            return "stopping"
        if not self._writer.is_running:
            return "the database writer has stopped"
        return self._writer.health.describe()

    def reload(self) -> None:
        """Reload every snapshot whose topic has changed; called in threads."""
        with self._reloading, self._application.database.reading() as connection:
            self._application.key_index.observe_time()
            revisions = schema.read_revisions(connection)
            changed = {
                topic for topic, value in revisions.items() if self._revisions.get(topic) != value
            }
            if changed:
                self._application.load(connection, frozenset(changed))
                self._revisions = revisions

    async def run(self) -> None:
        """Run all jobs until cancelled."""
        await asyncio.gather(
            self._repeat(self._poll, self._settings.snapshot_poll_seconds),
            self._repeat(self._write_back, WRITE_BACK_SECONDS),
            self._repeat(self.recover, jobs.RECOVERY_INTERVAL_SECONDS),
            self._repeat(self._watch_files, FILES_WATCH_SECONDS),
            self._repeat(self._expire, jobs.EXPIRY_INTERVAL_SECONDS),
            self._repeat(self._forget, retention.INTERVAL_SECONDS, first_seconds=1.0),
            self._repeat(self._measure, retention.MEASURING_SECONDS, first_seconds=0.0),
            self._repeat(self._forget_answers, FORGET_ANSWERS_SECONDS),
        )

    async def _repeat(
        self,
        work: Callable[[], Awaitable[None]],
        period_seconds: float,
        *,
        first_seconds: float | None = None,
    ) -> None:
        await asyncio.sleep(period_seconds if first_seconds is None else first_seconds)
        while True:
            name = getattr(work, "__name__", "")
            try:
                await work()
            except HeadgateError as error:
                # The database may be busy or full; the next round tries again.
                log.warning("background_job.failed", work=name, error=error.message)
            # A fault of ours in one round must not end all upkeep, unseen.
            except Exception:
                log.exception("background_job.fault", work=name)
            await asyncio.sleep(period_seconds)

    async def _poll(self) -> None:
        await asyncio.to_thread(self.reload)

    async def _write_back(self) -> None:
        await self._writer.call(self._application.write_back)
        used = self._application.key_index.take_used()
        if used:
            at = self._application.clock.now()
            await self._writer.call(lambda connection: flush_used(connection, used, at=at))
        self._holds_open = await asyncio.to_thread(self._count_holds)

    def _count_holds(self) -> int:
        with self._application.database.reading() as connection:
            return billing.count_open_holds(connection)

    async def end(self) -> None:
        """Store at a stop what is only in memory. Raise `StorageUnavailableError`."""
        await self._writer.call(self._application.write_back)

    async def recover(self) -> None:
        """Record receipts that had to wait for the database. Raise `StorageUnavailableError`."""
        for receipt in await jobs.recover(self._ledger):
            self._observe(receipt, 0)

    async def _watch_files(self) -> None:
        """Look for deleted or replaced files, and watch the length of the write-ahead log.

        A reader that does not end keeps the log growing: warn, and stop taking calls in time.
        """
        await self._writer.examine_files()
        before, self._wal_bytes = self._wal_bytes, self._application.database.wal_bytes
        alarm = self._settings.wal_alarm_bytes
        if (self._wal_bytes > alarm) is not (before > alarm):
            log.warning("storage.wal", bytes=self._wal_bytes, alarm_bytes=alarm)
        self._writer.health.overgrown = self._wal_bytes > self._settings.wal_bytes_max

    async def _expire(self) -> None:
        await jobs.resolve_expired_holds(self._ledger)

    async def _forget_answers(self) -> None:
        now = self._application.clock.now()
        await self._writer.call(lambda connection: delete_expired_responses(connection, now=now))

    async def _measure(self) -> None:
        await asyncio.to_thread(self._take_latencies)

    def _take_latencies(self) -> None:
        application = self._application
        with application.database.reading() as connection:
            application.latencies.reload(connection, application.clock.now())

    async def _forget(self) -> None:
        if not self._settings.retention_days:
            return
        now = self._application.clock.now()
        progress = await self._pruner.run(now - self._settings.retention_days * DAY_SECONDS)
        if progress.rows:
            log.info(
                "retention.done",
                receipts=progress.rows,
                slices=progress.slices,
                longest_ms=round(progress.longest_seconds * 1000, 1),
            )


def count_connections(database: Database) -> int:
    """Return the number of open connections to the database, in use or not."""
    pool = database.engine.pool
    assert isinstance(pool, sa.QueuePool)
    return pool.checkedin() + pool.checkedout()
