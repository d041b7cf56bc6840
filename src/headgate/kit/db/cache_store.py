"""Keep sealed answers in the database for all processes, up to a number of bytes."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa
import structlog

from headgate.kit.clock import Clock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import Values, build_insert
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError

KEPT_SECONDS = 30 * 86_400
DELETED_AT_ONCE = 500
READ_AT_ONCE = 500
SHARE_MAX = 16
"""A box is at most this part of the cache, and the size is looked at after as much was stored."""

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
        self._added_bytes = 0
        """How much was stored since the size was looked at."""

    async def find(self, box_ids: Sequence[bytes]) -> dict[bytes, bytes]:
        """Return the boxes that there are, by their ids."""
        return await asyncio.to_thread(self._read, box_ids)

    def put(self, boxes: Sequence[tuple[bytes, bytes]]) -> None:
        """Store boxes with their ids as soon as that is possible. One that is not stored is missed
        later; one that would take a large part of the cache is not stored."""
        now, size_max = self._clock.now(), self.bytes_max // SHARE_MAX
        # Once each: the same input may be there twice.
        known = {box_id: box for box_id, box in boxes if len(box) <= size_max}
        rows = [(box_id, box, len(box), now) for box_id, box in known.items()]
        if not rows:
            return
        self._added_bytes += sum(row[2] for row in rows)
        try:
            stored = self._writer.call(lambda connection: self._insert(connection, rows))
        except HeadgateError:
            return
        stored.add_done_callback(_report_failure)

    def _insert(self, connection: sa.Connection, rows: Sequence[Values]) -> None:
        _INSERT.run_all(connection, rows)
        # Not only every ten minutes: many batches may arrive in between.
        if self._added_bytes > self.bytes_max // SHARE_MAX:
            self._added_bytes = 0
            self._prune_some(connection)

    async def prune(self) -> int:
        """Delete what is too old or too much. Return how many boxes."""
        deleted = 0
        while some := await self._writer.call(self._prune_some):
            deleted += some
        return deleted

    def _read(self, box_ids: Sequence[bytes]) -> dict[bytes, bytes]:
        found: dict[bytes, bytes] = {}
        since = self._clock.now() - KEPT_SECONDS
        with self._database.reading() as connection:
            for start in range(0, len(box_ids), READ_AT_ONCE):
                query = sa.select(CACHED.c.id, CACHED.c.box).where(
                    CACHED.c.id.in_(box_ids[start : start + READ_AT_ONCE]),
                    CACHED.c.created_at > since,
                )
                found |= {bytes(row.id): bytes(row.box) for row in connection.execute(query)}
        return found

    def _prune_some(self, connection: sa.Connection) -> int:
        oldest = sa.select(CACHED.c.id).order_by(CACHED.c.created_at).limit(DELETED_AT_ONCE)
        total = connection.execute(sa.select(sa.func.coalesce(sa.func.sum(CACHED.c.size), 0)))
        if total.scalar_one() <= self.bytes_max:
            oldest = oldest.where(CACHED.c.created_at <= self._clock.now() - KEPT_SECONDS)
        return connection.execute(sa.delete(CACHED).where(CACHED.c.id.in_(oldest))).rowcount


def _report_failure(stored: asyncio.Future[Any]) -> None:
    if not stored.cancelled() and (error := stored.exception()) is not None:
        log.warning("embedding_cache.not_stored", error=str(error))
