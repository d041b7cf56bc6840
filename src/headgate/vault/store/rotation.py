"""The SQL of replacing keys: staged forms, seals that change hands, and how far a rotation is."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.vault.model.keys import (
    EVERY_KEY,
    PLATFORM_KEY,
    OrganizationKeyRecord,
    Rotation,
    RotationKind,
    RotationState,
)
from headgate.vault.store import (
    CREDENTIALS,
    IS_RUNNING,
    ORGANIZATION_KEYS,
    ROTATIONS,
    UNRETIRED,
    flatten,
)
from headgate.vault.store.secrets import SECRETS

SEALED_TABLES = {table.name: table for table in (CREDENTIALS, SECRETS)}
"""Every table whose column `sealed` is opened with the organization key `key_id`.

All have `id`, `organization_id`, `name`, `sealed` (null: the secret was forgotten), `key_id` and
`seal_number`. How their seals are bound is in `service/sealed_tables.py`.
"""


def select_unstaged_keys(
    connection: sa.Connection, *, after: str, limit: int
) -> list[OrganizationKeyRecord]:
    """A page, by id, of the keys that are not yet wrapped under the next master key."""
    table = ORGANIZATION_KEYS.c
    statement = sa.select(ORGANIZATION_KEYS).where(table.next_wrapped.is_(None), table.id > after)
    rows = connection.execute(statement.order_by(table.id).limit(limit))
    return [msgspec.convert(row, OrganizationKeyRecord, from_attributes=True) for row in rows]


def stage_organization_key(
    connection: sa.Connection, record: OrganizationKeyRecord, next_wrapped: bytes
) -> int:
    """Lay the next form of a key beside its present one, if that is still the same."""
    table = ORGANIZATION_KEYS.c
    statement = sa.update(ORGANIZATION_KEYS).where(
        table.id == record.id, table.wrapped == record.wrapped
    )
    return connection.execute(statement.values(next_wrapped=next_wrapped)).rowcount


def bring_in_staged_keys(connection: sa.Connection, master_key_id: str) -> int:
    """Put the next form of every key in the place of the present one; how many."""
    table = ORGANIZATION_KEYS.c
    statement = sa.update(ORGANIZATION_KEYS).where(table.next_wrapped.is_not(None))
    values = {
        "wrapped": table.next_wrapped,
        "master_key_id": master_key_id,
        "next_wrapped": sa.null(),
    }
    return connection.execute(statement.values(**values)).rowcount


def drop_staged_keys(connection: sa.Connection) -> None:
    """Forget the next form of every key."""
    staged = ORGANIZATION_KEYS.c.next_wrapped.is_not(None)
    connection.execute(sa.update(ORGANIZATION_KEYS).where(staged).values(next_wrapped=None))


def retire_organization_keys(connection: sa.Connection, scope: str, *, now: float) -> int:
    """Let the keys of an organization, the platform or all seal nothing more; how many."""
    owner = ORGANIZATION_KEYS.c.organization_id
    mine = {EVERY_KEY: sa.true(), PLATFORM_KEY: owner.is_(None)}.get(scope, owner == scope)
    statement = sa.update(ORGANIZATION_KEYS).where(UNRETIRED, mine)
    return connection.execute(statement.values(retired_at=now)).rowcount


def delete_organization_key(connection: sa.Connection, key_id: str) -> None:
    """Forget a key under which nothing is sealed any more."""
    connection.execute(sa.delete(ORGANIZATION_KEYS).where(ORGANIZATION_KEYS.c.id == key_id))


def select_sealed(
    connection: sa.Connection, table: str, *, key_id: str | None, after: str, limit: int
) -> list[Mapping[str, Any]]:
    """A page, by id, of what is sealed in a table (under one key), with all its columns."""
    rows = SEALED_TABLES[table]
    statement = sa.select(rows).where(rows.c.sealed.is_not(None), rows.c.id > after)
    if key_id is not None:
        statement = statement.where(rows.c.key_id == key_id)
    statement = statement.order_by(rows.c.id).limit(limit)
    return [{**row} for row in connection.execute(statement).mappings()]


def replace_seal(
    connection: sa.Connection, table: str, row: Mapping[str, Any], values: Mapping[str, Any]
) -> int:
    """Change a row if its seal is still the one that was read: 1, else 0."""
    rows = SEALED_TABLES[table]
    statement = sa.update(rows).where(rows.c.id == row["id"], rows.c.sealed == row["sealed"])
    return connection.execute(statement.values(**values)).rowcount


def move_forgotten(connection: sa.Connection, table: str, *, before: str, after: str) -> int:
    """Let rows without a secret name another key than the one that goes; how many."""
    rows = SEALED_TABLES[table]
    statement = sa.update(rows).where(rows.c.key_id == before, rows.c.sealed.is_(None))
    return connection.execute(statement.values(key_id=after)).rowcount


def count_rows_by_key(connection: sa.Connection) -> dict[str, int]:
    """How many rows of all sealed tables name each organization key."""
    counts: dict[str, int] = {}
    for rows in SEALED_TABLES.values():
        statement = sa.select(rows.c.key_id, sa.func.count()).group_by(rows.c.key_id)
        for key_id, count in connection.execute(statement):
            counts[key_id] = counts.get(key_id, 0) + count
    return counts


def count_rows_of_key(connection: sa.Connection, key_id: str) -> int:
    """How many rows of all sealed tables name this key."""
    return sum(
        connection.execute(
            sa.select(sa.func.count()).select_from(rows).where(rows.c.key_id == key_id)
        ).scalar_one()
        for rows in SEALED_TABLES.values()
    )


def insert_rotation(connection: sa.Connection, rotation: Rotation) -> None:
    """Note that a rotation begins."""
    connection.execute(sa.insert(ROTATIONS).values(**flatten(rotation)))


def advance_rotation(
    connection: sa.Connection, rotation_id: str, *, done: int, now: float
) -> Rotation | None:
    """Note that so many more rows are done, and read how far the rotation is.

    None if it has ended; else nobody ends it before this transaction does.
    """
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
    """Note that a rotation is over."""
    values = {"state": state.value, "failed": failed, "updated_at": now, "finished_at": now}
    connection.execute(sa.update(ROTATIONS).where(ROTATIONS.c.id == rotation_id).values(**values))


def find_running_rotation(connection: sa.Connection, kind: RotationKind) -> Rotation | None:
    """The one rotation of a kind that is under way, or was when its process died."""
    statement = sa.select(ROTATIONS).where(ROTATIONS.c.kind == kind.value, IS_RUNNING)
    row = connection.execute(statement).one_or_none()
    return None if row is None else msgspec.convert(row, Rotation, from_attributes=True)


def select_rotations(connection: sa.Connection, *, limit: int) -> list[Rotation]:
    """The newest rotations."""
    statement = sa.select(ROTATIONS).order_by(ROTATIONS.c.started_at.desc(), ROTATIONS.c.id.desc())
    return [
        msgspec.convert(row, Rotation, from_attributes=True)
        for row in connection.execute(statement.limit(limit))
    ]
