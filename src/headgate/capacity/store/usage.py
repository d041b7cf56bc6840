"""The SQL of windows: what was used of each limit."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from headgate.capacity.model.windows import StoredCount, WindowKey
from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import build_insert

NEVER = 0.0
"""The end of the lifetime, as it is stored."""

WINDOWS = sa.Table(
    "capacity_windows",
    METADATA,
    sa.Column("level", sa.Text, primary_key=True),
    sa.Column("owner_id", sa.Text, primary_key=True),
    sa.Column("counted_limit", sa.Text, primary_key=True),
    sa.Column("bucket", sa.Text, primary_key=True),
    sa.Column("starts_at", sa.BigInteger, primary_key=True),
    sa.Column("ends_at", sa.Double, nullable=False),
    sa.Column("requests", sa.BigInteger, nullable=False),
    sa.Column("tokens", sa.BigInteger, nullable=False),
    sa.Column("changed_at", sa.Double, nullable=False),
    sa.Index("ix_capacity_windows_ends_at", "ends_at"),
    sa.Index("ix_capacity_windows_changed_at", "changed_at"),
)
_KEY = ("level", "owner_id", "counted_limit", "bucket", "starts_at")
_OPEN = build_insert(WINDOWS, ignore_known=True)


def add_counts(
    connection: sa.Connection, differences: Sequence[StoredCount], *, now: float
) -> list[StoredCount]:
    """Add to the counts of windows, and return them as they are afterwards."""
    # In one order, so that processes never wait for each other in a circle.
    ordered = sorted(differences, key=lambda each: msgspec.structs.astuple(each.key))
    _OPEN.run_all(
        connection,
        [(*_list_key(each.key), _write_end(each.ends_at), 0, 0, now) for each in ordered],
    )
    return [_add(connection, each, now) for each in ordered]


def _add(connection: sa.Connection, difference: StoredCount, now: float) -> StoredCount:
    columns = WINDOWS.c
    same = [
        columns[name] == value for name, value in zip(_KEY, _list_key(difference.key), strict=True)
    ]
    row = connection.execute(
        sa.update(WINDOWS)
        .where(*same)
        .values(
            requests=columns.requests + difference.requests,
            tokens=columns.tokens + difference.tokens,
            changed_at=now,
        )
        .returning(columns.requests, columns.tokens)
    ).one()
    return StoredCount(difference.key, difference.ends_at, row.requests, row.tokens)


def select_counts(
    connection: sa.Connection, *, now: float, changed_since: float = 0.0, limit: int
) -> list[StoredCount]:
    """Return the windows that are open, of those that changed since a time; the latest first."""
    columns = WINDOWS.c
    statement = (
        sa.select(WINDOWS)
        .where(columns.changed_at >= changed_since)
        .where(sa.or_(columns.ends_at > now, columns.ends_at == NEVER))
        .order_by(columns.changed_at.desc())
        .limit(limit)
    )
    return [
        StoredCount(
            WindowKey(*(getattr(row, name) for name in _KEY)),
            row.ends_at or None,
            row.requests,
            row.tokens,
        )
        for row in connection.execute(statement)
    ]


def delete_ended(connection: sa.Connection, *, before: float) -> int:
    """Delete the windows that ended before a time; return how many."""
    ended = sa.and_(WINDOWS.c.ends_at < before, WINDOWS.c.ends_at != NEVER)
    return connection.execute(sa.delete(WINDOWS).where(ended)).rowcount


def _list_key(key: WindowKey) -> tuple[str, str, str, str, int]:
    return key.level, key.owner_id, key.limit, key.bucket, key.starts_at


def _write_end(ends_at: float | None) -> float:
    return NEVER if ends_at is None else ends_at
