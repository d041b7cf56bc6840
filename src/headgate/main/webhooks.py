"""Wires the delivery of webhooks: its own egress client, the dispatcher and its periodic jobs."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping

from headgate.kit import outbox
from headgate.kit.db.writer import Writer
from headgate.kit.http.message import Client
from headgate.kit.jobs import Job, run_jobs
from headgate.main.application import Application
from headgate.settings import Settings
from headgate.webhooks.jobs import PRUNING_SECONDS, Dispatcher, DispatcherLimits, WebhookPruner
from headgate.webhooks.jobs.sender import Sender
from headgate.webhooks.service.rate_limit_notices import RateLimitNotices, select_wanted

NOTICES_SECONDS = 1.0
MEASURING_SECONDS = 15.0
LEASE_MARGIN_SECONDS = 45.0
"""How long a result may wait for the writer before its delivery is sent again."""


class WebhookDelivery:
    """Deliver the webhooks of one process. `client` serves nothing else, so that receivers of
    webhooks take no connection and no name lookup away from providers."""

    def __init__(
        self, settings: Settings, application: Application, writer: Writer, client: Client
    ) -> None:
        self._writer = writer
        clock = application.database_clock
        self._read_wanted = application.read_wanted
        self._database = application.database
        self.notices = RateLimitNotices(application.clock, application.ids)
        self.dispatcher = Dispatcher(
            application.database,
            writer,
            index=application.webhook_index,
            subscriptions=application.subscriptions,
            service=application.webhooks,
            sender=Sender(
                client,
                read_now=clock.now,
                read_monotonic=clock.monotonic,
                timeout_seconds=settings.webhook_seconds,
            ),
            clock=clock,
            limits=DispatcherLimits(
                in_flight_max=settings.webhooks_in_flight_max,
                endpoint_in_flight_max=settings.webhooks_per_endpoint_max,
                lease_seconds=settings.webhook_seconds + LEASE_MARGIN_SECONDS,
            ),
        )
        self._pruner = WebhookPruner(
            application.database,
            writer,
            clock=clock,
            retention_days=settings.webhook_retention_days,
        )
        dispatcher = self.dispatcher
        self.gauges: Mapping[str, Callable[[], float]] = {
            "webhooks_pending": lambda: dispatcher.pending,
            "webhooks_oldest_seconds": lambda: dispatcher.oldest_seconds,
            "webhooks_in_flight": lambda: dispatcher.in_flight,
        }
        self.counters: Mapping[str, Callable[[], float]] = {
            "webhooks_delivered": lambda: dispatcher.results["delivered"],
            "webhooks_failed": lambda: dispatcher.results["failed"],
            "webhooks_exhausted": lambda: dispatcher.results["exhausted"],
        }

    async def run(self) -> None:
        """Deliver until cancelled."""
        await asyncio.gather(
            self.dispatcher.run(),
            run_jobs(
                (
                    Job(
                        name="rate_limit_notices",
                        run=self.store_notices,
                        period_seconds=NOTICES_SECONDS,
                    ),
                    Job(
                        name="webhook_metrics",
                        run=self.dispatcher.measure,
                        period_seconds=MEASURING_SECONDS,
                    ),
                    Job(name="webhook_pruning", run=self._prune, period_seconds=PRUNING_SECONDS),
                )
            ),
        )

    async def store_notices(self) -> None:
        """Store the refusals with 429 that were gathered. Raise `StorageUnavailableError`."""
        rows = self.notices.take()
        if not rows:
            return
        wanted = select_wanted(rows, await asyncio.to_thread(self._look))
        if wanted:
            await self._writer.call(lambda connection: outbox.append(connection, wanted))

    def _look(self) -> outbox.WantedEvents:
        with self._database.reading() as connection:
            return self._read_wanted(connection)

    async def _prune(self) -> None:
        await self._pruner.run()
