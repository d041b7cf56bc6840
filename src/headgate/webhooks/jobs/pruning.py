"""Delete old deliveries, secrets whose overlap is over, and events that nobody ever wanted."""

from __future__ import annotations

import asyncio

import sqlalchemy as sa
import structlog

from headgate.kit import outbox
from headgate.kit.clock import Clock
from headgate.kit.db.engine import Database
from headgate.kit.db.writer import Writer
from headgate.webhooks.model.delivery import MICROSECONDS
from headgate.webhooks.store import deliveries as delivery_store
from headgate.webhooks.store import endpoints as endpoint_store

PRUNING_SECONDS = 300.0
SLICE_ROWS = 500
REST_SECONDS = 0.05
DAY_SECONDS = 86_400

log = structlog.get_logger(__name__)


class WebhookPruner:
    """Delete in small slices on the writer's thread, so that calls do not wait for long."""

    def __init__(
        self, database: Database, writer: Writer, *, clock: Clock, retention_days: int
    ) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self._retention_days = retention_days

    async def run(self) -> int:
        """Delete what is older than the retention; return how many deliveries. Raise
        `StorageUnavailableError`."""
        now = self._clock.now()
        before = int((now - self._retention_days * DAY_SECONDS) * MICROSECONDS)
        await self._writer.call(
            lambda connection: endpoint_store.delete_expired_secrets(connection, now)
        )
        endpoint_ids, deleted_ids = await asyncio.to_thread(self._look)
        total = 0
        for endpoint_id in endpoint_ids:
            at = int(now * MICROSECONDS) if endpoint_id in deleted_ids else before
            total += await self._delete_deliveries(endpoint_id, at)
        await self._delete_events(before)
        if total:
            log.info("webhooks.pruned", deliveries=total)
        return total

    def _look(self) -> tuple[list[str], set[str]]:
        """Return the ids of endpoints with deliveries, and those of them that were deleted."""
        with self._database.reading() as connection:
            ids = delivery_store.select_endpoint_ids(connection)
            return ids, {each for each in ids if not _exists(connection, each)}

    async def _delete_deliveries(self, endpoint_id: str, at: int) -> int:
        total, rows = 0, SLICE_ROWS
        while rows == SLICE_ROWS:
            rows = await self._writer.call(
                lambda connection: delivery_store.delete_before(
                    connection, endpoint_id, at, limit=SLICE_ROWS
                )
            )
            total += rows
            await asyncio.sleep(REST_SECONDS)
        return total

    async def _delete_events(self, at: int) -> None:
        rows = SLICE_ROWS
        while rows == SLICE_ROWS:
            rows = await self._writer.call(
                lambda connection: outbox.delete_before(connection, at, limit=SLICE_ROWS)
            )
            await asyncio.sleep(REST_SECONDS)


def _exists(connection: sa.Connection, endpoint_id: str) -> bool:
    found = endpoint_store.select_endpoint(connection, endpoint_id, organization_id=None)
    return found is not None
