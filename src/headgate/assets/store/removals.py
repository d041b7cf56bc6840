"""The SQL of objects that are to be deleted.

A row is there before an object is written, and goes in the transaction that makes the object an
asset. So no object is left behind, whenever the process dies, and the store is never searched.
"""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, count_rows

REMOVALS = sa.Table(
    "object_removals",
    METADATA,
    sa.Column("object_key", sa.Text, primary_key=True),
    sa.Column("due_at", sa.Double, nullable=False),
    sa.Index("ix_object_removals_due_at", "due_at"),
)
_R = REMOVALS.c


def insert(connection: sa.Connection, object_keys: Iterable[str], *, due_at: float) -> None:
    rows = [{"object_key": each, "due_at": due_at} for each in object_keys]
    if rows:
        connection.execute(sa.insert(REMOVALS), rows)


def count(connection: sa.Connection, folder: str) -> int:
    """Return how many objects below a folder wait."""
    return count_rows(connection, REMOVALS, _R.object_key.startswith(folder, autoescape=True))


def select_due(connection: sa.Connection, now: float, *, limit: int) -> list[str]:
    statement = sa.select(_R.object_key).where(_R.due_at <= now).order_by(_R.due_at).limit(limit)
    return list(connection.execute(statement).scalars())


def delete(connection: sa.Connection, object_keys: Iterable[str]) -> int:
    """Return how many there were."""
    statement = sa.delete(REMOVALS).where(_R.object_key.in_(list(object_keys)))
    return connection.execute(statement).rowcount
