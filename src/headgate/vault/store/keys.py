"""The SQL of master keys and organization keys."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA
from headgate.vault.model.keys import (
    MasterKeyRecord,
    MasterKeyState,
    OrganizationKeyRecord,
)

MASTER_KEYS = sa.Table(
    "master_keys",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("check_value", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("provider", sa.Text, nullable=False, server_default="local"),
    sa.Column("key_name", sa.Text),
    sa.Column("wrapped", sa.LargeBinary),
    sa.Column("state", sa.Text, nullable=False, server_default="active"),
    sa.Column("seals", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("retired_at", sa.Double),
)
ORGANIZATION_KEYS = sa.Table(
    "organization_keys",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), index=True),
    sa.Column("master_key_id", sa.Text, sa.ForeignKey("master_keys.id"), nullable=False),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("next_wrapped", sa.LargeBinary),
    sa.Column("seals", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("retired_at", sa.Double),
)


def has_tables(connection: sa.Connection) -> bool:
    """Tell whether this database was ever set up."""
    return sa.inspect(connection).has_table(MASTER_KEYS.name)


def insert_organization_key(connection: sa.Connection, values: Mapping[str, Any]) -> None:
    connection.execute(sa.insert(ORGANIZATION_KEYS).values(**values))


def select_master_keys(connection: sa.Connection) -> dict[str, MasterKeyRecord]:
    """Return all master keys by id, oldest first; also from a database before its upgrade."""
    present = {column["name"] for column in sa.inspect(connection).get_columns(MASTER_KEYS.name)}
    columns = [column for column in MASTER_KEYS.c if column.name in present]
    rows = connection.execute(sa.select(*columns).order_by(MASTER_KEYS.c.created_at))
    return {row.id: msgspec.convert(row, MasterKeyRecord, from_attributes=True) for row in rows}


def insert_master_key(connection: sa.Connection, record: MasterKeyRecord) -> None:
    connection.execute(sa.insert(MASTER_KEYS).values(**flatten(record)))


def lock_master_key(connection: sa.Connection, key_id: str) -> MasterKeyState | None:
    """Return the state of a master key, and lock it until the end of the transaction."""
    statement = sa.select(MASTER_KEYS.c.state).where(MASTER_KEYS.c.id == key_id)
    state = connection.execute(statement.with_for_update(read=True)).scalar_one_or_none()
    return None if state is None else MasterKeyState(state)


def select_active_master_keys(connection: sa.Connection) -> set[str]:
    active = MASTER_KEYS.c.state == MasterKeyState.ACTIVE.value
    return set(connection.execute(sa.select(MASTER_KEYS.c.id).where(active)).scalars())


def set_master_key_state(
    connection: sa.Connection,
    key_id: str,
    state: MasterKeyState,
    *,
    retired_at: float | None = None,
) -> None:
    connection.execute(
        sa.update(MASTER_KEYS)
        .where(MASTER_KEYS.c.id == key_id)
        .values(state=state.value, retired_at=retired_at)
    )


def delete_master_key(connection: sa.Connection, key_id: str) -> None:
    connection.execute(sa.delete(MASTER_KEYS).where(MASTER_KEYS.c.id == key_id))


def count_master_seals(connection: sa.Connection, key_id: str, *, seals: int) -> None:
    connection.execute(
        sa.update(MASTER_KEYS)
        .where(MASTER_KEYS.c.id == key_id)
        .values(seals=MASTER_KEYS.c.seals + seals)
    )


def select_organization_keys(
    connection: sa.Connection, *conditions: sa.ColumnElement[bool]
) -> Iterator[OrganizationKeyRecord]:
    """Yield the organization keys that meet the conditions, newest last."""
    table = ORGANIZATION_KEYS.c
    statement = sa.select(ORGANIZATION_KEYS).where(*conditions)
    for row in connection.execute(statement.order_by(table.created_at, table.id)):
        yield msgspec.convert(row, OrganizationKeyRecord, from_attributes=True)


def select_sealing_keys(
    connection: sa.Connection, organization_id: str | None
) -> Iterator[OrganizationKeyRecord]:
    """Yield the keys of one organization that are not retired, newest last."""
    table = ORGANIZATION_KEYS.c
    return select_organization_keys(
        connection, table.organization_id.is_not_distinct_from(organization_id), UNRETIRED
    )


UNRETIRED = ORGANIZATION_KEYS.c.retired_at.is_(None)


def select_retired_keys(connection: sa.Connection) -> list[OrganizationKeyRecord]:
    return list(select_organization_keys(connection, sa.not_(UNRETIRED)))


def count_organization_seals(connection: sa.Connection, key_id: str, *, seals: int) -> int:
    """Add to the number of seals of a key. Return 0 if it is retired and must not seal."""
    statement = sa.update(ORGANIZATION_KEYS).where(ORGANIZATION_KEYS.c.id == key_id, UNRETIRED)
    return connection.execute(statement.values(seals=ORGANIZATION_KEYS.c.seals + seals)).rowcount


def flatten(record: msgspec.Struct) -> dict[str, Any]:
    """Return the fields of a record as columns, enumerations as their values."""
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    return {
        name: value.value if isinstance(value, enum.Enum) else value
        for name, value in values.items()
    }
