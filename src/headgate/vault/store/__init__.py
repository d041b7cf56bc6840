"""All SQL of credentials and of the keys that seal them."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, bump_revision
from headgate.vault.model import CredentialRecord
from headgate.vault.model.keys import (
    MasterKeyRecord,
    MasterKeyState,
    OrganizationKeyRecord,
)

TOPIC = "credentials"
"""The revision that every change bumps, by which other processes know of it."""

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

CREDENTIALS = sa.Table(
    "credentials",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), index=True),
    sa.Column("integration", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("auth_type", sa.Text, nullable=False),
    sa.Column("base_url", sa.Text, nullable=False),
    sa.Column("provider_organization", sa.Text),
    sa.Column("metadata", sa.JSON, nullable=False),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("key_id", sa.Text, sa.ForeignKey("organization_keys.id"), nullable=False, index=True),
    sa.Column("is_default", sa.Boolean, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("last_used_at", sa.Double),
    sa.Column("deleted_at", sa.Double),
    sa.Column("description", sa.Text),
    sa.Column("allowed_models", sa.JSON, nullable=False, server_default=sa.text("'[]'")),
    sa.Column("capacity", sa.JSON, nullable=False, server_default=sa.text("'[]'")),
    sa.Column("secret_header", sa.Text),
    sa.Column("source", sa.Text, nullable=False, server_default=sa.text("''")),
    sa.Column("created_by", sa.Text),
    sa.Column("created_by_email", sa.Text),
    sa.Column("version", sa.Integer, nullable=False, server_default=sa.text("1")),
    sa.Column("seal_number", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    sa.Column("stream_usage", sa.Text, nullable=False, server_default=sa.text("'ask'")),
    sa.Column("first_byte_seconds", sa.Double),
    sa.Column("idle_seconds", sa.Double),
    sa.Column("total_seconds", sa.Double),
)
_FIELDS = CredentialRecord.__struct_fields__
LIVE = CREDENTIALS.c.deleted_at.is_(None)
_ONE_DEFAULT = sa.and_(CREDENTIALS.c.is_default, LIVE)

sa.Index(
    "uq_credentials_default",
    CREDENTIALS.c.organization_id,
    CREDENTIALS.c.integration,
    unique=True,
    sqlite_where=_ONE_DEFAULT,
    postgresql_where=_ONE_DEFAULT,
)


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

sa.Index(
    "uq_rotations_kind",
    ROTATIONS.c.kind,
    unique=True,
    sqlite_where=IS_RUNNING,
    postgresql_where=IS_RUNNING,
)


def has_tables(connection: sa.Connection) -> bool:
    """Whether this database was ever set up."""
    return sa.inspect(connection).has_table(MASTER_KEYS.name)


def insert_organization_key(connection: sa.Connection, values: Mapping[str, Any]) -> None:
    """Add one organization key."""
    connection.execute(sa.insert(ORGANIZATION_KEYS).values(**values))


def insert_credential(
    connection: sa.Connection, record: CredentialRecord, *, sealed: bytes
) -> None:
    """Add one credential."""
    values: dict[str, Any] = msgspec.to_builtins(record)
    connection.execute(sa.insert(CREDENTIALS).values(sealed=sealed, **values))


def select_credentials(connection: sa.Connection) -> Iterator[tuple[CredentialRecord, bytes]]:
    """Every credential that was not deleted, with its sealed secret, the oldest first."""
    table = CREDENTIALS.c
    statement = sa.select(CREDENTIALS).where(LIVE).order_by(table.created_at, table.id)
    for row in connection.execute(statement):
        yield read_credential(row), row.sealed or b""


def read_credential(row: sa.Row[Any]) -> CredentialRecord:
    """The record in a row."""
    return CredentialRecord(**{name: getattr(row, name) for name in _FIELDS})


def update_credential(
    connection: sa.Connection, credential_id: str, values: Mapping[str, Any]
) -> None:
    """Change columns of one credential."""
    connection.execute(
        sa.update(CREDENTIALS).where(CREDENTIALS.c.id == credential_id).values(**values)
    )


def clear_default(
    connection: sa.Connection, organization_id: str | None, *, integration: str
) -> None:
    """No credential of this organization and integration is the default any more."""
    connection.execute(
        sa.update(CREDENTIALS)
        .where(
            CREDENTIALS.c.organization_id.is_not_distinct_from(organization_id),
            CREDENTIALS.c.integration == integration,
            CREDENTIALS.c.is_default,
        )
        .values(is_default=False, version=CREDENTIALS.c.version + 1)
    )


def note_change(connection: sa.Connection) -> None:
    """Tell every process, once this transaction commits, to look again."""
    bump_revision(connection, TOPIC)


def select_master_keys(connection: sa.Connection) -> dict[str, MasterKeyRecord]:
    """Every master key that was ever used, by its id; also before the upgrade of a database."""
    present = {column["name"] for column in sa.inspect(connection).get_columns(MASTER_KEYS.name)}
    columns = [column for column in MASTER_KEYS.c if column.name in present]
    rows = connection.execute(sa.select(*columns).order_by(MASTER_KEYS.c.created_at))
    return {row.id: msgspec.convert(row, MasterKeyRecord, from_attributes=True) for row in rows}


def insert_master_key(connection: sa.Connection, record: MasterKeyRecord) -> None:
    """Remember a master key by what only it can open."""
    connection.execute(sa.insert(MASTER_KEYS).values(**flatten(record)))


def lock_master_key(connection: sa.Connection, key_id: str) -> MasterKeyState | None:
    """The state of a master key, which no other transaction changes until the end of this one."""
    statement = sa.select(MASTER_KEYS.c.state).where(MASTER_KEYS.c.id == key_id)
    state = connection.execute(statement.with_for_update(read=True)).scalar_one_or_none()
    return None if state is None else MasterKeyState(state)


def select_active_master_keys(connection: sa.Connection) -> set[str]:
    """The ids of the master keys under which organization keys are wrapped now."""
    active = MASTER_KEYS.c.state == MasterKeyState.ACTIVE.value
    return set(connection.execute(sa.select(MASTER_KEYS.c.id).where(active)).scalars())


def set_master_key_state(
    connection: sa.Connection,
    key_id: str,
    state: MasterKeyState,
    *,
    retired_at: float | None = None,
) -> None:
    """Change what a master key is for."""
    connection.execute(
        sa.update(MASTER_KEYS)
        .where(MASTER_KEYS.c.id == key_id)
        .values(state=state.value, retired_at=retired_at)
    )


def delete_master_key(connection: sa.Connection, key_id: str) -> None:
    """Forget a master key under which nothing is wrapped."""
    connection.execute(sa.delete(MASTER_KEYS).where(MASTER_KEYS.c.id == key_id))


def count_master_seals(connection: sa.Connection, key_id: str, *, seals: int) -> None:
    """Note that a master key has sealed so much more."""
    connection.execute(
        sa.update(MASTER_KEYS)
        .where(MASTER_KEYS.c.id == key_id)
        .values(seals=MASTER_KEYS.c.seals + seals)
    )


def select_organization_keys(
    connection: sa.Connection, *conditions: sa.ColumnElement[bool]
) -> Iterator[OrganizationKeyRecord]:
    """Every organization key that meets the conditions, the newest last."""
    table = ORGANIZATION_KEYS.c
    statement = sa.select(ORGANIZATION_KEYS).where(*conditions)
    for row in connection.execute(statement.order_by(table.created_at, table.id)):
        yield msgspec.convert(row, OrganizationKeyRecord, from_attributes=True)


def select_sealing_keys(
    connection: sa.Connection, organization_id: str | None
) -> Iterator[OrganizationKeyRecord]:
    """The keys of one organization that are not retired, the newest last."""
    table = ORGANIZATION_KEYS.c
    return select_organization_keys(
        connection, table.organization_id.is_not_distinct_from(organization_id), UNRETIRED
    )


UNRETIRED = ORGANIZATION_KEYS.c.retired_at.is_(None)


def select_retired_keys(connection: sa.Connection) -> list[OrganizationKeyRecord]:
    """The keys that are to go."""
    return list(select_organization_keys(connection, sa.not_(UNRETIRED)))


def count_organization_seals(connection: sa.Connection, key_id: str, *, seals: int) -> int:
    """Note that a key has sealed so much more. 0 if it is retired, and must not."""
    statement = sa.update(ORGANIZATION_KEYS).where(ORGANIZATION_KEYS.c.id == key_id, UNRETIRED)
    return connection.execute(statement.values(seals=ORGANIZATION_KEYS.c.seals + seals)).rowcount


def flatten(record: msgspec.Struct) -> dict[str, Any]:
    """The columns of a record: its fields, with enumerations as their values."""
    values = {name: getattr(record, name) for name in record.__struct_fields__}
    return {
        name: value.value if isinstance(value, enum.Enum) else value
        for name, value in values.items()
    }
