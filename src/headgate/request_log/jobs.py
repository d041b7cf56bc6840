"""Delete requests that are older than their project keeps them."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import sqlalchemy as sa
import structlog

from headgate.kit.db.writer import Writer
from headgate.request_log.model.entry import MICROSECONDS
from headgate.request_log.service.index import RequestLogIndex
from headgate.request_log.store import entries, payloads

INTERVAL_SECONDS = 600.0
STEP_ROWS = 200
"""Few, since every row may have large bodies, and calls wait for the writer meanwhile."""
REST_SECONDS = 0.02
DAY_SECONDS = 86_400

log = structlog.get_logger(__name__)


class RequestPruner:
    """Delete old requests in small steps on the writer's thread."""

    def __init__(self, writer: Writer, index: RequestLogIndex) -> None:
        # Not flushed: what a power failure brings back, the next run deletes again.
        self._queue = writer.create_queue(self._delete, durable=False)
        self._list = writer.create_queue(self._list_projects, durable=False)
        self._index = index

    async def run(self, now: float) -> int:
        """Delete what is too old at `now` (unix seconds); return the number of requests. Raise
        `StorageUnavailableError`."""
        total = 0
        for project_id in await self._list.put(None):
            days = self._index.find(project_id).retention_days
            before = int((now - days * DAY_SECONDS) * MICROSECONDS)
            while rows := await self._queue.put((project_id, before)):
                total += rows
                await asyncio.sleep(REST_SECONDS)
        if total:
            log.info("request_log.pruned", requests=total)
        return total

    def _delete(self, connection: sa.Connection, steps: Sequence[tuple[str, int]]) -> Sequence[int]:
        counts: list[int] = []
        for project_id, before in steps:
            ids = entries.delete_before(connection, project_id, before, rows_max=STEP_ROWS)
            payloads.delete(connection, ids)
            counts.append(len(ids))
        return counts

    def _list_projects(
        self, connection: sa.Connection, asked: Sequence[None]
    ) -> Sequence[list[str]]:
        return [entries.list_projects(connection) for _ in asked]
