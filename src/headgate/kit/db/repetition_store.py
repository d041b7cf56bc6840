"""Recognize repeated work within a window, in the database, where every process sees it.

The first of equal requests starts the window and gets a nonce, and the others get the same one
until it ends. What was asked is stored as a hash only.

A process that has the database for itself decides from memory, and writes what it decided behind
itself, so that a call waits for no commit. Only in the first window after its start does it ask the
database, for what the process before it started.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
import structlog

from headgate.kit.clock import Clock
from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import HotStatement
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError

NONCE_BYTES = 16
PRUNED_AT_ONCE = 1_000
KNOWN_MAX = 100_000
"""Works in memory; of more, the oldest are forgotten."""

REPEATABLE = sa.Table(
    "repeatable_work",
    METADATA,
    sa.Column("id", sa.LargeBinary(32), primary_key=True),
    sa.Column("nonce", sa.LargeBinary(NONCE_BYTES), nullable=False),
    sa.Column("started_at", sa.Double, nullable=False, index=True),
)
_BY_ID: Any = sa.select(REPEATABLE.c.nonce, REPEATABLE.c.started_at).where(
    REPEATABLE.c.id == sa.bindparam("work")
)
_FIND = HotStatement(_BY_ID, "work")
_START = HotStatement(
    sa.insert(REPEATABLE)
    .values({name: sa.bindparam(name) for name in ("id", "nonce", "started_at")})
    .inline(),
    *("id", "nonce", "started_at"),
    end=" ON CONFLICT (id) DO UPDATE SET nonce = excluded.nonce, started_at = excluded.started_at",
)

log = structlog.get_logger(__name__)


class WorkRequest(msgspec.Struct, frozen=True):
    """Ask for the nonce of work. `renew` starts it anew although its window has not ended."""

    id: bytes
    renew: bool = False


class StartedWork(msgspec.Struct, frozen=True):
    """Tell which run of the work this is, and whether it was started before."""

    nonce: bytes
    started_at: float
    is_repeated: bool = False


class _Write(msgspec.Struct, frozen=True):
    request: WorkRequest
    decided: StartedWork | None = None
    """What is only to be stored; None leaves it to the database."""


class RepetitionStore:
    """Keep when work was started, for `window_seconds`. `is_shared` says that other processes may
    write to the same database."""

    def __init__(
        self, writer: Writer, clock: Clock, *, window_seconds: float, is_shared: bool
    ) -> None:
        self._clock = clock
        self._window_seconds = window_seconds
        self._is_shared = is_shared
        self._opened_at = clock.now()
        self._pruned_at = 0.0
        self._known: dict[bytes, StartedWork] = {}
        """In the order of their start."""
        # If a power failure loses a row, its call is lost before its answer.
        self._queue = writer.create_queue(
            self._store_all,
            durable=False,
            lock_name=lambda write: f"repeatable:{write.request.id.hex()}",
        )

    async def start(self, request: WorkRequest) -> StartedWork:
        """Return the run to which a request belongs. Raise a `HeadgateError` of kind
        UNAVAILABLE."""
        now = self._clock.now()
        self._forget(now)
        known = self._known.get(request.id)
        is_open = known is not None and known.started_at > now - self._window_seconds
        if known is not None and is_open and not request.renew:
            return msgspec.structs.replace(known, is_repeated=True)
        if self._is_shared or now < self._opened_at + self._window_seconds:
            work = await self._queue.put(_Write(request))
        else:
            work = StartedWork(secrets.token_bytes(NONCE_BYTES), now)
            self._queue.put(_Write(request, work)).add_done_callback(_report_failure)
        self._known.pop(request.id, None)
        self._known[request.id] = msgspec.structs.replace(work, is_repeated=False)
        return work

    def _forget(self, now: float) -> None:
        over = now - self._window_seconds
        while self._known:
            first = next(iter(self._known))
            if self._known[first].started_at > over and len(self._known) < KNOWN_MAX:
                return
            del self._known[first]

    def _store_all(
        self, connection: sa.Connection, writes: Sequence[_Write]
    ) -> Sequence[StartedWork]:
        now = self._clock.now()
        if now >= self._pruned_at + self._window_seconds and not self._prune(connection, now):
            self._pruned_at = now
        return [self._store(connection, write, now) for write in writes]

    def _store(self, connection: sa.Connection, write: _Write, now: float) -> StartedWork:
        work = write.decided
        if work is None:
            row = next(iter(_FIND.fetch(connection, (write.request.id,))), None)
            if row is not None and not write.request.renew and row[1] > now - self._window_seconds:
                return StartedWork(bytes(row[0]), row[1], is_repeated=True)
            work = StartedWork(secrets.token_bytes(NONCE_BYTES), now)
        _START.run(connection, (write.request.id, work.nonce, work.started_at))
        return work

    def _prune(self, connection: sa.Connection, now: float) -> bool:
        """Delete some of what is over. Return whether there may be more."""
        old = (
            sa.select(REPEATABLE.c.id)
            .where(REPEATABLE.c.started_at <= now - self._window_seconds)
            .limit(PRUNED_AT_ONCE)
        )
        deleted = connection.execute(sa.delete(REPEATABLE).where(REPEATABLE.c.id.in_(old))).rowcount
        return deleted == PRUNED_AT_ONCE


def _report_failure(written: asyncio.Future[StartedWork]) -> None:
    """Log what was not stored: this process recognizes repetitions all the same."""
    if not written.cancelled() and isinstance(error := written.exception(), HeadgateError):
        log.warning("repetitions.unstored", error=str(error))
