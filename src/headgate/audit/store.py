"""The SQL of the audit log. Entries are only inserted and read."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.audit.model import (
    MICROSECONDS,
    Actor,
    ActorKind,
    AuditEntry,
    AuditEvent,
    AuditFilter,
    encode_changes,
)
from headgate.kit.db.schema import METADATA, count_rows
from headgate.kit.db.triggers import forbid_changes

ENTRIES_PER_FETCH = 1_000

AUDIT = sa.Table(
    "audit",
    METADATA,
    sa.Column("number", sa.BigInteger, primary_key=True, autoincrement=False),
    sa.Column("at", sa.BigInteger, nullable=False),
    sa.Column("actor_kind", sa.Text, nullable=False),
    sa.Column("actor_id", sa.Text, nullable=False),
    sa.Column("actor_name", sa.Text, nullable=False),
    sa.Column("address", sa.Text, nullable=False),
    sa.Column("user_agent", sa.Text, nullable=False),
    sa.Column("action", sa.Text, nullable=False),
    sa.Column("organization_id", sa.Text),
    sa.Column("object_id", sa.Text, nullable=False),
    sa.Column("changes", sa.Text, nullable=False),
    sa.Column("previous_hash", sa.LargeBinary(32), nullable=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
    sa.Index("ix_audit_organization_id", "organization_id", "number"),
    sa.Index("ix_audit_object_id", "object_id", "number"),
)
forbid_changes(AUDIT)

# One row for the newest entry. Updating it locks out other writers until the commit.
AUDIT_HEADS = sa.Table(
    "audit_heads",
    METADATA,
    sa.Column("id", sa.Integer, primary_key=True, autoincrement=False),
    sa.Column("number", sa.BigInteger, nullable=False),
    sa.Column("hash", sa.LargeBinary(32), nullable=False),
)
HEAD_ID = 1


def lock_head(connection: sa.Connection) -> int | None:
    """Take the next number and lock out other writers. Return None where no head exists yet."""
    # The update takes the row's lock before the number is read: no gap, no number twice.
    taken = connection.execute(
        sa.update(AUDIT_HEADS)
        .where(AUDIT_HEADS.c.id == HEAD_ID)
        .values(number=AUDIT_HEADS.c.number + 1)
    )
    return read_head(connection)[0] if taken.rowcount else None


def insert_head(connection: sa.Connection, *, first_hash: bytes) -> None:
    """Create the row that `lock_head` locks, with the first number taken."""
    connection.execute(sa.insert(AUDIT_HEADS).values(id=HEAD_ID, number=1, hash=first_hash))


def read_head(connection: sa.Connection) -> tuple[int, bytes]:
    """Return number and hash of the newest entry, 0 and an empty hash where there is none."""
    row = connection.execute(sa.select(AUDIT_HEADS.c.number, AUDIT_HEADS.c.hash)).one_or_none()
    return (0, b"") if row is None else (row.number, row.hash)


def insert_entry(connection: sa.Connection, entry: AuditEntry) -> None:
    actor, event = entry.actor, entry.event
    connection.execute(
        sa.insert(AUDIT).values(
            number=entry.number,
            at=round(entry.at * MICROSECONDS),
            actor_kind=actor.kind.value,
            actor_id=actor.id,
            actor_name=actor.name,
            address=actor.address,
            user_agent=actor.user_agent,
            action=event.action,
            organization_id=event.organization_id,
            object_id=event.object_id,
            changes=encode_changes(event),
            previous_hash=entry.previous_hash,
            hash=entry.hash,
        )
    )
    connection.execute(
        sa.update(AUDIT_HEADS).where(AUDIT_HEADS.c.id == HEAD_ID).values(hash=entry.hash)
    )


def select_chain(connection: sa.Connection) -> Iterator[tuple[int, AuditEntry]]:
    """Yield every entry in order with its stored time in microseconds, reading in batches."""
    after = 0
    while True:
        statement = (
            sa.select(AUDIT)
            .where(AUDIT.c.number > after)
            .order_by(AUDIT.c.number)
            .limit(ENTRIES_PER_FETCH)
        )
        rows = connection.execute(statement).all()
        for row in rows:
            yield row.at, _entry(row)
        if not rows:
            return
        after = rows[-1].number


def select_entries(
    connection: sa.Connection, audit_filter: AuditFilter, *, limit: int, offset: int
) -> list[AuditEntry]:
    statement = (
        sa.select(AUDIT)
        .where(*_conditions(audit_filter))
        .order_by(AUDIT.c.number.desc())
        .limit(limit)
        .offset(offset)
    )
    return [_entry(row) for row in connection.execute(statement)]


def count_entries(connection: sa.Connection, audit_filter: AuditFilter) -> int:
    return count_rows(connection, AUDIT, *_conditions(audit_filter))


def has_hash(connection: sa.Connection, entry_hash: bytes) -> bool:
    statement = sa.select(AUDIT.c.number).where(AUDIT.c.hash == entry_hash).limit(1)
    return connection.execute(statement).first() is not None


def _conditions(audit_filter: AuditFilter) -> Iterator[sa.ColumnElement[bool]]:
    for column, value in (
        (AUDIT.c.organization_id, audit_filter.organization_id),
        (AUDIT.c.object_id, audit_filter.object_id),
        (AUDIT.c.actor_id, audit_filter.actor_id),
        (AUDIT.c.action, audit_filter.action),
    ):
        if value is not None:
            yield column == value
    if audit_filter.since is not None:
        yield AUDIT.c.at >= int(audit_filter.since * MICROSECONDS)
    if audit_filter.until is not None:
        yield AUDIT.c.at < int(audit_filter.until * MICROSECONDS)


def _entry(row: Any) -> AuditEntry:
    return AuditEntry(
        number=row.number,
        at=row.at / MICROSECONDS,
        actor=Actor(
            ActorKind(row.actor_kind), row.actor_id, row.actor_name, row.address, row.user_agent
        ),
        event=AuditEvent(
            row.action, row.organization_id, row.object_id, msgspec.json.decode(row.changes)
        ),
        previous_hash=row.previous_hash,
        hash=row.hash,
    )
