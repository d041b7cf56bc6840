"""The SQL of rotations: staged keys, retired keys, and progress."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, declare_unique
from headgate.vault.model.keys import (
    EVERY_KEY,
    PLATFORM_KEY,
    OrganizationKeyRecord,
    Rotation,
    RotationKind,
    RotationState,
)
from headgate.vault.store.keys import ORGANIZATION_KEYS, UNRETIRED, flatten

ROTATIONS = sa.Table(
    "rotations",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.Column("done", sa.BigInteger, nullable=False),
    sa.Column("total", sa.BigInteger, nullable=False),
    sa.Column("failed", sa.BigInteger, nullable=False),
    sa.Column("started_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("finished_at", sa.Double),
)
IS_RUNNING = ROTATIONS.c.state == sa.literal_column("'running'")
declare_unique("uq_rotations_kind", ROTATIONS.c.kind, where=IS_RUNNING)


def select_unstaged_keys(
    connection: sa.Connection, *, after: str, limit: int
) -> list[OrganizationKeyRecord]:
    """Return a page, by id, of keys that are not wrapped under the next master key yet."""
    table = ORGANIZATION_KEYS.c
    statement = sa.select(ORGANIZATION_KEYS).where(table.next_wrapped.is_(None), table.id > after)
    rows = connection.execute(statement.order_by(table.id).limit(limit))
    return [msgspec.convert(row, OrganizationKeyRecord, from_attributes=True) for row in rows]


def stage_organization_key(
    connection: sa.Connection, record: OrganizationKeyRecord, next_wrapped: bytes
) -> int:
    """Store the next form of a key if its present form is unchanged; return 1, else 0."""
    table = ORGANIZATION_KEYS.c
    statement = sa.update(ORGANIZATION_KEYS).where(
        table.id == record.id, table.wrapped == record.wrapped
    )
    return connection.execute(statement.values(next_wrapped=next_wrapped)).rowcount


def activate_staged_keys(connection: sa.Connection, master_key_id: str) -> int:
    """Replace all keys with their next form; return how many."""
    table = ORGANIZATION_KEYS.c
    statement = sa.update(ORGANIZATION_KEYS).where(table.next_wrapped.is_not(None))
    values = {
        "wrapped": table.next_wrapped,
        "master_key_id": master_key_id,
        "next_wrapped": sa.null(),
    }
    return connection.execute(statement.values(**values)).rowcount


def drop_staged_keys(connection: sa.Connection) -> None:
    staged = ORGANIZATION_KEYS.c.next_wrapped.is_not(None)
    connection.execute(sa.update(ORGANIZATION_KEYS).where(staged).values(next_wrapped=None))


def retire_organization_keys(connection: sa.Connection, scope: str, *, now: float) -> int:
    """Retire the keys of an organization, the platform or all; return how many."""
    owner = ORGANIZATION_KEYS.c.organization_id
    mine = {EVERY_KEY: sa.true(), PLATFORM_KEY: owner.is_(None)}.get(scope, owner == scope)
    statement = sa.update(ORGANIZATION_KEYS).where(UNRETIRED, mine)
    return connection.execute(statement.values(retired_at=now)).rowcount


def delete_organization_key(connection: sa.Connection, key_id: str) -> None:
    connection.execute(sa.delete(ORGANIZATION_KEYS).where(ORGANIZATION_KEYS.c.id == key_id))


def insert_rotation(connection: sa.Connection, rotation: Rotation) -> None:
    connection.execute(sa.insert(ROTATIONS).values(**flatten(rotation)))


def advance_rotation(
    connection: sa.Connection, rotation_id: str, *, done: int, now: float
) -> Rotation | None:
    """Add to the rows that are done; return the rotation, None if it has ended. The update locks
    the row: nobody ends the rotation before this transaction does."""
    mine = ROTATIONS.c.id == rotation_id
    values = {"done": ROTATIONS.c.done + done, "updated_at": now}
    if not connection.execute(
        sa.update(ROTATIONS).where(mine, IS_RUNNING).values(**values)
    ).rowcount:
        return None
    row = connection.execute(sa.select(ROTATIONS).where(mine)).one()
    return msgspec.convert(row, Rotation, from_attributes=True)


def end_rotation(
    connection: sa.Connection, rotation_id: str, state: RotationState, *, failed: int, now: float
) -> None:
    values = {"state": state.value, "failed": failed, "updated_at": now, "finished_at": now}
    connection.execute(sa.update(ROTATIONS).where(ROTATIONS.c.id == rotation_id).values(**values))


def find_running_rotation(connection: sa.Connection, kind: RotationKind) -> Rotation | None:
    """Return the unfinished rotation of a kind, also one whose process died."""
    statement = sa.select(ROTATIONS).where(ROTATIONS.c.kind == kind.value, IS_RUNNING)
    row = connection.execute(statement).one_or_none()
    return None if row is None else msgspec.convert(row, Rotation, from_attributes=True)


def select_rotations(connection: sa.Connection, *, limit: int) -> list[Rotation]:
    """Return the newest rotations."""
    statement = sa.select(ROTATIONS).order_by(ROTATIONS.c.started_at.desc(), ROTATIONS.c.id.desc())
    return [
        msgspec.convert(row, Rotation, from_attributes=True)
        for row in connection.execute(statement.limit(limit))
    ]
