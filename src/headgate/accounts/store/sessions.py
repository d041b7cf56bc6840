"""The SQL of sessions."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import Session
from headgate.kit.db.schema import METADATA

SESSIONS = sa.Table(
    "sessions",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("person_id", sa.Text, sa.ForeignKey("people.id"), nullable=False, index=True),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("last_seen_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False, index=True),
    sa.Column("user_agent", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
)

SESSION_COLUMNS = [SESSIONS.c[name] for name in Session.__struct_fields__]


def insert_session(connection: sa.Connection, session: Session, *, digest: bytes) -> None:
    values = msgspec.structs.asdict(session)
    connection.execute(sa.insert(SESSIONS).values(**values, digest=digest))


def select_session(connection: sa.Connection, digest: bytes) -> Session | None:
    statement = sa.select(*SESSION_COLUMNS).where(SESSIONS.c.digest == digest)
    row = connection.execute(statement).one_or_none()
    return None if row is None else _session(row)


def select_sessions_of(connection: sa.Connection, person_id: str) -> list[Session]:
    """Return all sessions of a person, the last used first."""
    statement = (
        sa.select(*SESSION_COLUMNS)
        .where(SESSIONS.c.person_id == person_id)
        .order_by(SESSIONS.c.last_seen_at.desc(), SESSIONS.c.id.desc())
    )
    return [_session(row) for row in connection.execute(statement)]


def touch_session(connection: sa.Connection, session_id: str, *, at: float) -> None:
    connection.execute(
        sa.update(SESSIONS).where(SESSIONS.c.id == session_id).values(last_seen_at=at)
    )


def delete_session(connection: sa.Connection, person_id: str, session_id: str) -> bool:
    """Delete one session of a person. Return whether there was one."""
    own = (SESSIONS.c.person_id == person_id, SESSIONS.c.id == session_id)
    return connection.execute(sa.delete(SESSIONS).where(*own)).rowcount > 0


def delete_sessions_of(connection: sa.Connection, person_id: str) -> int:
    """Delete all sessions of a person. Return how many."""
    statement = sa.delete(SESSIONS).where(SESSIONS.c.person_id == person_id)
    return connection.execute(statement).rowcount


def delete_expired_sessions(connection: sa.Connection, *, now: float) -> None:
    connection.execute(sa.delete(SESSIONS).where(SESSIONS.c.expires_at <= now))


def _session(row: sa.Row[Any]) -> Session:
    return msgspec.convert(dict(zip(Session.__struct_fields__, row, strict=True)), Session)
