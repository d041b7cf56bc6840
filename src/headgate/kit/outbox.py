"""Store events for other systems in the transaction that made them true."""

from __future__ import annotations

from collections.abc import Callable, Container, Sequence

import sqlalchemy as sa

from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import build_insert
from headgate.kit.failpoint import failpoint

OUTBOX = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("created_at", sa.BigInteger, nullable=False, index=True),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
)
_INSERT = build_insert(OUTBOX)

Row = tuple[str, int, str, str, bytes]
"""id, created_at (unix microseconds), topic, key (events of one key keep their order), payload."""

WantedEvents = Container[tuple[str, str]]
"""Hold the topic and the organization of events that somebody wants. Empty, it is false."""
ReadWanted = Callable[[sa.Connection], WantedEvents]
"""Read what is wanted as of this transaction. A writing transaction calls it after its first write,
so that `Database.wait_for_earlier_writes` waits for it."""


class _EveryEvent:
    def __contains__(self, _event: object) -> bool:
        return True


_EVERY_EVENT = _EveryEvent()
_NO_EVENT: frozenset[tuple[str, str]] = frozenset()


def want_nothing(_connection: sa.Connection) -> WantedEvents:
    return _NO_EVENT


def want_everything(_connection: sa.Connection) -> WantedEvents:
    return _EVERY_EVENT


def append(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Add events in this transaction; ids are chosen by the sender and unique."""
    _INSERT.run_all(connection, rows)
    failpoint("outbox_insert")


def select_oldest(connection: sa.Connection, *, limit: int) -> list[Row]:
    """Return the oldest events."""
    statement = sa.select(OUTBOX).order_by(OUTBOX.c.created_at, OUTBOX.c.id).limit(limit)
    return [
        (row.id, row.created_at, row.topic, row.key, row.payload)
        for row in connection.execute(statement)
    ]


def delete(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Remove events that were handed on."""
    connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id.in_(ids)))


def delete_before(connection: sa.Connection, at: int, *, limit: int) -> int:
    """Remove events from before a time in unix microseconds, which nobody wanted; return how
    many."""
    old = sa.select(OUTBOX.c.id).where(OUTBOX.c.created_at < at).limit(limit)
    return connection.execute(sa.delete(OUTBOX).where(OUTBOX.c.id.in_(old))).rowcount
