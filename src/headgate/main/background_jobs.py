"""Wires the background jobs of the features, and what the health check and the metrics ask."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

import sqlalchemy as sa
import uvicorn

from headgate.billing import jobs as billing_jobs
from headgate.billing.service import ledger as billing
from headgate.billing.service.ledger import Ledger
from headgate.capacity.jobs import UsageSync
from headgate.keys.service import flush_used
from headgate.kit.db import monitor
from headgate.kit.db.monitor import StorageMonitor
from headgate.kit.db.snapshots import SnapshotReloader
from headgate.kit.db.writer import Writer
from headgate.kit.http.message import Client
from headgate.kit.idempotency import delete_expired_responses
from headgate.kit.jobs import Job, run_jobs
from headgate.main.application import Application
from headgate.main.assets import build_jobs as build_asset_jobs
from headgate.main.background_work import build_background_work
from headgate.main.data_plane import build_cache, build_claims, build_request_recorder
from headgate.main.payments import build_jobs as build_payment_jobs
from headgate.metering import jobs as metering_jobs
from headgate.metering.jobs import Pruner, RollUps
from headgate.oauth import jobs as oauth_jobs
from headgate.oauth.jobs import OAuthPruner
from headgate.relay.ports import Receipt
from headgate.request_log import jobs as request_log_jobs
from headgate.request_log.jobs import RequestPruner
from headgate.settings import Settings
from headgate.signatures.service import NonceStore

Result = TypeVar("Result")

WRITE_BACK_SECONDS = 5.0
RESPONSES_EXPIRY_SECONDS = 600.0
CLAIMS_SECONDS = 15.0
"""A quarter of the lease of a claim."""


class BackgroundJobs:
    """Run the periodic work of one process and answer its health check."""

    def __init__(
        self,
        settings: Settings,
        application: Application,
        *,
        writer: Writer,
        client: Client,
        ledger: Ledger,
        server: uvicorn.Server,
        observe: Callable[[Receipt, int], None],
    ) -> None:
        database = application.database
        self._settings = settings
        self._application = application
        self._writer = writer
        self._client = client
        self._ledger = ledger
        self._cache = build_cache(settings, application, writer)
        self._nonces = NonceStore(
            writer, application.steady_clock, rows_max=settings.signature_nonces_max
        )
        self.claims = claims = build_claims(settings, application, writer)
        self.recorder = build_request_recorder(settings, application, writer)
        self.responses = responses = build_background_work(
            settings,
            application,
            writer=writer,
            ledger=ledger,
            client=client,
            observe=self._observe_end,
        )
        self._server = server
        self._observe = observe
        self._pruner = Pruner(writer)
        self._roll_ups = RollUps(writer)
        self._request_pruner = RequestPruner(writer, application.request_log_index)
        self._oauth_pruner = OAuthPruner(
            writer, application.connected_applications, application.steady_clock
        )
        self._capacity = UsageSync(
            application.capacity,
            application.capacity_windows,
            database=database,
            writer=writer,
            clock=application.capacity_clock,
            is_shared=settings.database_url is not None,
            windows_max=settings.capacity_windows_max,
        )
        self._reloader = SnapshotReloader(database, application.load)
        self._monitor = StorageMonitor(
            database,
            writer,
            wal_alarm_bytes=settings.wal_alarm_bytes,
            wal_bytes_max=settings.wal_bytes_max,
        )
        self._holds_open = 0
        self.gauges: Mapping[str, Callable[[], float]] = {
            "background_responses": lambda: responses.running,
            "holds_open": lambda: self._holds_open,
            "database_bytes": lambda: database.file_bytes,
            "database_wal_bytes": lambda: database.wal_bytes,
            "storage_good": lambda: float(writer.health.is_healthy),
            "receipts_deferred": lambda: ledger.deferred,
            "master_key_outdated": lambda: float(application.has_old_master_key),
            "idempotency_keys": lambda: claims.keys,
            "idempotency_bytes": lambda: claims.stored_bytes,
            "database_connections": lambda: database.connections_open,
            "capacity_windows": lambda: len(application.capacity_windows),
        }

    def check(self) -> str | None:
        """Return why the process is unhealthy; None when it is healthy."""
        if self._server.should_exit:
            return "stopping"
        if not self._writer.is_running:
            return "the database writer has stopped"
        return self._writer.health.describe()

    def _observe_end(self, receipt: Receipt, settlement_microseconds: int) -> None:
        """Tell the end of a response that ran in the background."""
        self._observe(receipt, settlement_microseconds)
        self.recorder.end(receipt)

    def reload(self) -> None:
        """Reload every snapshot whose data has changed; blocks, so call it in a thread."""
        self._application.key_index.observe_time()
        self._reloader.reload()

    async def run(self) -> None:
        """Run all jobs until cancelled."""
        poll_seconds = self._settings.snapshot_poll_seconds
        expiry_seconds = billing_jobs.EXPIRY_INTERVAL_SECONDS
        recovery_seconds = billing_jobs.RECOVERY_INTERVAL_SECONDS
        await run_jobs(
            (
                Job(name="reload", run=self._reload, period_seconds=poll_seconds),
                Job(name="write_back", run=self._write_back, period_seconds=WRITE_BACK_SECONDS),
                Job(name="recover", run=self.recover, period_seconds=recovery_seconds),
                Job(name="storage", run=self._monitor.check, period_seconds=monitor.PERIOD_SECONDS),
                Job(
                    name="extend_leases",
                    run=self._ledger.extend_leases,
                    period_seconds=billing_jobs.EXTENSION_INTERVAL_SECONDS,
                ),
                Job(
                    name="expire_credits",
                    run=self._ledger.expire_credits,
                    period_seconds=billing_jobs.CREDITS_INTERVAL_SECONDS,
                    first_seconds=30.0,
                ),
                Job(
                    name="raise_credits",
                    run=self._ledger.raise_credits,
                    period_seconds=billing_jobs.CREDITS_INTERVAL_SECONDS,
                    first_seconds=30.0,
                ),
                Job(
                    name="recount_budgets",
                    run=self._ledger.recount,
                    period_seconds=billing_jobs.RECOUNT_INTERVAL_SECONDS,
                ),
                Job(
                    name="read_clock",
                    run=self._read_clock,
                    period_seconds=billing_jobs.CLOCK_INTERVAL_SECONDS,
                ),
                Job(name="expire_holds", run=self._expire_holds, period_seconds=expiry_seconds),
                Job(
                    name="roll_up",
                    run=self._roll_up,
                    period_seconds=metering_jobs.ROLL_UP_SECONDS,
                    first_seconds=0.0,
                ),
                Job(
                    name="latencies",
                    run=self._measure_latencies,
                    period_seconds=metering_jobs.MEASURING_SECONDS,
                    first_seconds=0.0,
                ),
                Job(
                    name="expire_responses",
                    run=self._expire_responses,
                    period_seconds=RESPONSES_EXPIRY_SECONDS,
                ),
                *self._capacity.list_jobs(self._settings.capacity_sync_seconds),
                Job(name="extend_claims", run=self.claims.extend, period_seconds=CLAIMS_SECONDS),
                *self._list_retention_jobs(),
                *build_payment_jobs(self._application, self._writer, self._client, self.reload),
                *self.responses.list_jobs(),
                *build_asset_jobs(self._application, self._writer),
            )
        )

    def _list_retention_jobs(self) -> list[Job]:
        return [
            Job(
                name="retention",
                run=self._delete_old_receipts,
                period_seconds=metering_jobs.INTERVAL_SECONDS,
                first_seconds=1.0,
            ),
            Job(
                name="oauth",
                run=self._oauth_pruner.run,
                period_seconds=oauth_jobs.INTERVAL_SECONDS,
            ),
            Job(
                name="request_log",
                run=self._prune_requests,
                period_seconds=request_log_jobs.INTERVAL_SECONDS,
                first_seconds=5.0,
            ),
        ]

    async def prepare(self) -> None:
        """Load every snapshot, continue from the counts of limits, and settle what dead processes
        left."""
        self.reload()
        self._capacity.load()
        self._read(self._application.capacity_tracker.load)
        await self.resolve_abandoned()

    async def resolve_abandoned(self) -> None:
        """Settle the calls that dead processes left, if this is the only process."""
        await self._ledger.resolve_abandoned()
        await self.claims.resolve_abandoned()

    async def end(self) -> None:
        """Store at a stop what is only in memory. Raise `StorageUnavailableError`."""
        await self._capacity.run()
        await self._writer.call(self._application.write_back)

    async def recover(self) -> None:
        """Record receipts that had to wait for the database. Raise `StorageUnavailableError`."""
        for receipt in await billing_jobs.recover(self._ledger):
            self._observe(receipt, 0)

    async def _reload(self) -> None:
        await asyncio.to_thread(self.reload)

    async def _write_back(self) -> None:
        await self._writer.call(self._application.write_back)
        used = self._application.key_index.take_used()
        if used:
            at = self._application.clock.now()
            await self._writer.call(lambda connection: flush_used(connection, used, at=at))
        self._holds_open = await asyncio.to_thread(self._read, billing.count_open_holds)

    async def _read_clock(self) -> None:
        now = await asyncio.to_thread(self._application.database_clock.adjust)
        self._ledger.adjust_clock(self._application.clock.now() if now is None else now)

    async def _expire_holds(self) -> None:
        await billing_jobs.resolve_expired_holds(self._ledger)

    async def _delete_old_receipts(self) -> None:
        days, now = self._settings.retention_days, self._application.clock.now()
        await metering_jobs.delete_old_receipts(self._pruner, days=days, now=now)
        days = self._settings.usage_retention_days
        await metering_jobs.delete_old_roll_ups(self._roll_ups, days=days, now=now)

    async def _prune_requests(self) -> None:
        await self._request_pruner.run(self._application.clock.now())

    async def _roll_up(self) -> None:
        await self._roll_ups.run()

    async def _measure_latencies(self) -> None:
        application, now = self._application, self._application.clock.now()
        await asyncio.to_thread(
            self._read, lambda connection: application.latencies.reload(connection, now)
        )

    async def _expire_responses(self) -> None:
        now = self._application.clock.now()
        await self._writer.call(lambda connection: delete_expired_responses(connection, now=now))
        await self.claims.prune()
        await self._nonces.prune()
        await self._cache.prune()

    def _read(self, query: Callable[[sa.Connection], Result]) -> Result:
        with self._application.database.reading() as connection:
            return query(connection)
