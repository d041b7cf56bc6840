"""Wiring of what settles responses that run in the background."""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headgate.billing import jobs
from headgate.billing.service.background import BackgroundStore
from headgate.billing.service.ledger import Ledger
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.db.writer import Writer
from headgate.kit.http.message import Client
from headgate.kit.jobs import Job
from headgate.main.application import Application
from headgate.relay.background import BackgroundCalls
from headgate.relay.ports import Receipt
from headgate.settings import Settings

PRUNE_SECONDS = 600.0


class BackgroundSettler(msgspec.Struct):
    """Hold what settles responses that run in the background."""

    stored: BackgroundStore
    calls: BackgroundCalls
    questions: jobs.BackgroundQuestions
    running: int = 0
    """How many ran when they were last counted."""

    def list_jobs(self) -> tuple[Job, ...]:
        return (
            Job(
                name="settle_background",
                run=self._settle,
                period_seconds=jobs.BACKGROUND_INTERVAL_SECONDS,
            ),
            Job(name="prune_background", run=self._prune, period_seconds=PRUNE_SECONDS),
        )

    async def _settle(self) -> None:
        if await self.questions.run() or self.running:
            self.running = await self.stored.count_running()

    async def _prune(self) -> None:
        await self.stored.prune()
        self.running = await self.stored.count_running()


def build_background_work(
    settings: Settings,
    application: Application,
    *,
    writer: Writer,
    ledger: Ledger,
    client: Client,
    observe: Callable[[Receipt, int], None],
) -> BackgroundSettler:
    """Build what settles responses that run in the background."""
    stored = BackgroundStore(
        AsyncDatabase(application.database, writer, reload=lambda: None),
        writer,
        application.database_clock,
        seconds_max=settings.background_seconds_max,
    )
    calls = BackgroundCalls(
        stored,
        ledger,
        application.catalog,
        application.credential_resolver,
        client,
        application.clock,
        body_bytes_max=settings.response_body_bytes_max,
        observe=observe,
    )
    return BackgroundSettler(stored, calls, jobs.BackgroundQuestions(stored, calls))
