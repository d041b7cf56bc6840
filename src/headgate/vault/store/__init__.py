"""All SQL of credentials and of the keys that seal them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, bump_revision
from headgate.vault.model import (
    CredentialRecord,
)

TOPIC = "credentials"
"""The revision that every change bumps, by which other processes know of it."""

MASTER_KEYS = sa.Table(
    "master_keys",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("check_value", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)

ORGANIZATION_KEYS = sa.Table(
    "organization_keys",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), index=True),
    sa.Column("master_key_id", sa.Text, sa.ForeignKey("master_keys.id"), nullable=False),
    sa.Column("wrapped", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
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
    sa.Column("key_id", sa.Text, sa.ForeignKey("organization_keys.id"), nullable=False),
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


def has_tables(connection: sa.Connection) -> bool:
    """Whether this database was ever set up."""
    return sa.inspect(connection).has_table(MASTER_KEYS.name)


def select_master_keys(connection: sa.Connection) -> dict[str, bytes]:
    """The check value of each master key that was ever used, by its id."""
    return {row.id: row.check_value for row in connection.execute(sa.select(MASTER_KEYS))}


def insert_master_key(
    connection: sa.Connection, key_id: str, *, check_value: bytes, created_at: float
) -> None:
    """Remember a master key by what only it can open."""
    connection.execute(
        sa.insert(MASTER_KEYS).values(id=key_id, check_value=check_value, created_at=created_at)
    )


def select_organization_keys(
    connection: sa.Connection,
) -> Iterator[tuple[str, str | None, bytes]]:
    """Id, organization and wrapped key of every organization key, the newest last."""
    table = ORGANIZATION_KEYS.c
    for row in connection.execute(
        sa.select(ORGANIZATION_KEYS).order_by(table.created_at, table.id)
    ):
        yield row.id, row.organization_id, row.wrapped


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


# Managed models.
