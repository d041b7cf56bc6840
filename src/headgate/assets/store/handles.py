"""The SQL of handles."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from headgate.assets.model.handle import StoredHandle
from headgate.kit.db.schema import METADATA

HANDLES = sa.Table(
    "handles",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("project_id", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("media_type", sa.Text, nullable=False),
    sa.Column("bytes", sa.BigInteger, nullable=False),
    sa.Column("object_key", sa.Text, nullable=False),
    sa.Column("key_id", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Index("ix_handles_project_id", "project_id", "expires_at"),
    sa.Index("ix_handles_expires_at", "expires_at"),
)
_H = HANDLES.c


def insert(connection: sa.Connection, handle: StoredHandle) -> None:
    connection.execute(sa.insert(HANDLES).values(**msgspec.structs.asdict(handle)))


def find(connection: sa.Connection, project_id: str, handle_id: str) -> StoredHandle | None:
    statement = sa.select(HANDLES).where(_H.id == handle_id, _H.project_id == project_id)
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    return StoredHandle(**{name: getattr(row, name) for name in StoredHandle.__struct_fields__})


def expire(connection: sa.Connection, handle_id: str, now: float) -> None:
    """Let a handle end now; it and its object are deleted next."""
    connection.execute(sa.update(HANDLES).where(_H.id == handle_id).values(expires_at=now))


def sum_bytes(connection: sa.Connection, project_id: str, now: float) -> int:
    total = sa.func.coalesce(sa.func.sum(_H.bytes), 0)
    statement = sa.select(total).where(_H.project_id == project_id, _H.expires_at > now)
    return int(connection.execute(statement).scalar_one())


def delete_expired(connection: sa.Connection, now: float, *, limit: int) -> list[str]:
    """Return the keys of the objects that nothing names any more."""
    due = sa.select(_H.id, _H.object_key).where(_H.expires_at <= now).limit(limit)
    rows = connection.execute(due).all()
    connection.execute(sa.delete(HANDLES).where(_H.id.in_([row.id for row in rows])))
    return [row.object_key for row in rows]
