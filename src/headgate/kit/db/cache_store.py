"""Keep sealed answers in the database for all processes, up to a number of bytes."""

from __future__ import annotations

import asyncio
from typing import Any

import sqlalchemy as sa
import structlog

from headgate.kit.clock import Clock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import build_insert
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError

KEPT_SECONDS = 30 * 86_400
DELETED_AT_ONCE = 500

CACHED = sa.Table(
    "embedding_cache",
    METADATA,
    sa.Column("id", sa.LargeBinary(32), primary_key=True),
    sa.Column("box", sa.LargeBinary, nullable=False),
    sa.Column("size", sa.BigInteger, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False, index=True),
)
_INSERT = build_insert(CACHED, ignore_known=True)

log = structlog.get_logger(__name__)


class CacheStore:
    """Keep boxes by their ids. `bytes_max` is enforced by `prune`, which deletes the oldest."""

    def __init__(self, database: Database, writer: Writer, clock: Clock, *, bytes_max: int) -> None:
        self._database = database
        self._writer = writer
        self._clock = clock
        self.bytes_max = bytes_max

    async def find(self, box_id: bytes) -> bytes | None:
        return await asyncio.to_thread(self._read, box_id)

    def put(self, box_id: bytes, box: bytes) -> None:
        """Store a box as soon as that is possible. A box that is not stored is missed later."""
        row = (box_id, box, len(box), self._clock.now())
        try:
            stored = self._writer.call(lambda connection: _INSERT.run(connection, row))
        except HeadgateError:
            return
        stored.add_done_callback(_report_failure)

    async def prune(self) -> int:
        """Delete what is too old or too much. Return how many boxes."""
        deleted = 0
        while some := await self._writer.call(self._prune_some):
            deleted += some
        return deleted

    def _read(self, box_id: bytes) -> bytes | None:
        query = sa.select(CACHED.c.box).where(
            CACHED.c.id == box_id, CACHED.c.created_at > self._clock.now() - KEPT_SECONDS
        )
        with self._database.reading() as connection:
            return connection.execute(query).scalar_one_or_none()

    def _prune_some(self, connection: sa.Connection) -> int:
        oldest = sa.select(CACHED.c.id).order_by(CACHED.c.created_at).limit(DELETED_AT_ONCE)
        total = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(CACHED.c.size), 0)))
        if total.scalar_one() <= self.bytes_max:
            oldest = oldest.where(CACHED.c.created_at <= self._clock.now() - KEPT_SECONDS)
        return connection.execute(sa.delete(CACHED).where(CACHED.c.id.in_(oldest))).rowcount


def _report_failure(stored: asyncio.Future[Any]) -> None:
    if not stored.cancelled() and (error := stored.exception()) is not None:
        log.warning("embedding_cache.not_stored", error=str(error))
