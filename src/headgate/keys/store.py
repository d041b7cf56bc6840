"""All SQL of keys. The token itself is never here, only its SHA-256."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.keys.model import Key, KeyKind
from headgate.kit.db.schema import METADATA, bump_revision
from headgate.relay.ports import DisconnectPolicy

TOPIC = "keys"
"""The revision that every change bumps, by which other processes know of it."""

KEYS = sa.Table(
    "keys",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column(
        "organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False, index=True
    ),
    sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id"), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("disabled_at", sa.Double),
    sa.Column("revoked_at", sa.Double),
    sa.Column("models", sa.JSON, nullable=False),
    sa.Column("endpoints", sa.JSON, nullable=False),
    sa.Column("requests_per_minute", sa.Integer, nullable=False),
    sa.Column("on_disconnect", sa.Text),
)


def insert_key(connection: sa.Connection, key: Key, *, digest: bytes) -> None:
    """Add one key."""
    values: dict[str, Any] = msgspec.to_builtins(key)
    connection.execute(sa.insert(KEYS).values(digest=digest, **values))


def select_keys(connection: sa.Connection) -> Iterator[tuple[bytes, Key]]:
    """Every key that ever was with its token's digest, the oldest first."""
    for row in connection.execute(sa.select(KEYS).order_by(KEYS.c.created_at, KEYS.c.id)):
        yield row.digest, _key(row)


def select_key(connection: sa.Connection, key_id: str) -> Key | None:
    """The key of an id."""
    row = connection.execute(sa.select(KEYS).where(KEYS.c.id == key_id)).one_or_none()
    return None if row is None else _key(row)


def mark_revoked(connection: sa.Connection, key_id: str, *, at: float) -> None:
    """Note when a key was revoked."""
    connection.execute(sa.update(KEYS).where(KEYS.c.id == key_id).values(revoked_at=at))


def note_change(connection: sa.Connection) -> None:
    """Tell every process, once this transaction commits, to look again."""
    bump_revision(connection, TOPIC)


def _key(row: Any) -> Key:
    return Key(
        id=row.id,
        kind=KeyKind(row.kind),
        name=row.name,
        organization_id=row.organization_id,
        project_id=row.project_id,
        created_at=row.created_at,
        expires_at=row.expires_at,
        disabled_at=row.disabled_at,
        revoked_at=row.revoked_at,
        models=tuple(row.models),
        endpoints=tuple(row.endpoints),
        requests_per_minute=row.requests_per_minute,
        on_disconnect=DisconnectPolicy(row.on_disconnect) if row.on_disconnect else None,
    )
