"""Recognize repeated work within a window, in the database, where every process sees it.

The first of equal requests starts the window and gets a nonce, and the others get the same one
until it ends. What was asked is stored as a hash only.
"""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Sequence

import msgspec
import sqlalchemy as sa

from headgate.kit.clock import Clock
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer

NONCE_BYTES = 16
PRUNED_AT_ONCE = 1_000

REPEATABLE = sa.Table(
    "repeatable_work",
    METADATA,
    sa.Column("id", sa.LargeBinary(32), primary_key=True),
    sa.Column("nonce", sa.LargeBinary(NONCE_BYTES), nullable=False),
    sa.Column("started_at", sa.Double, nullable=False, index=True),
)


class WorkRequest(msgspec.Struct, frozen=True):
    """Ask for the nonce of work. `renew` starts it anew although its window has not ended."""

    id: bytes
    renew: bool = False


class StartedWork(msgspec.Struct, frozen=True):
    """Tell which run of the work this is, and whether it was started before."""

    nonce: bytes
    started_at: float
    is_repeated: bool


class RepetitionStore:
    """Keep when work was started, for `window_seconds`."""

    def __init__(self, writer: Writer, clock: Clock, *, window_seconds: float) -> None:
        self._clock = clock
        self._window_seconds = window_seconds
        self._pruned_at = 0.0
        # If a power failure loses a row, its call is lost before its answer.
        self._queue = writer.create_queue(
            self._start_all,
            durable=False,
            lock_name=lambda request: f"repeatable:{request.id.hex()}",
        )

    def start(self, request: WorkRequest) -> Awaitable[StartedWork]:
        """Return the run to which a request belongs, committed. Raise a `HeadgateError` of kind
        UNAVAILABLE."""
        return self._queue.put(request)

    def _start_all(
        self, connection: sa.Connection, requests: Sequence[WorkRequest]
    ) -> Sequence[StartedWork]:
        now = self._clock.now()
        if now >= self._pruned_at + self._window_seconds:
            self._pruned_at = now
            self._prune(connection, now)
        return [self._start(connection, request, now) for request in requests]

    def _start(self, connection: sa.Connection, request: WorkRequest, now: float) -> StartedWork:
        own = REPEATABLE.c.id == request.id
        row = connection.execute(sa.select(REPEATABLE).where(own)).one_or_none()
        if row is not None and not request.renew and row.started_at > now - self._window_seconds:
            return StartedWork(row.nonce, row.started_at, is_repeated=True)
        nonce = secrets.token_bytes(NONCE_BYTES)
        values = {"nonce": nonce, "started_at": now}
        if row is None:
            connection.execute(sa.insert(REPEATABLE).values(id=request.id, **values))
        else:
            connection.execute(sa.update(REPEATABLE).where(own).values(values))
        return StartedWork(nonce, now, is_repeated=False)

    def _prune(self, connection: sa.Connection, now: float) -> None:
        old = (
            sa.select(REPEATABLE.c.id)
            .where(REPEATABLE.c.started_at <= now - self._window_seconds)
            .limit(PRUNED_AT_ONCE)
        )
        connection.execute(sa.delete(REPEATABLE).where(REPEATABLE.c.id.in_(old)))
