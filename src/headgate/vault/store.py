"""All SQL of credentials and of the keys that seal them."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, bump_revision
from headgate.vault.model import CredentialRecord, ManagedModel

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
)
_LIVE = CREDENTIALS.c.deleted_at.is_(None)
_ONE_DEFAULT = sa.and_(CREDENTIALS.c.is_default, _LIVE)

sa.Index(
    "uq_credentials_default",
    CREDENTIALS.c.organization_id,
    CREDENTIALS.c.integration,
    unique=True,
    sqlite_where=_ONE_DEFAULT,
)
sa.Index(
    "uq_credentials_name",
    CREDENTIALS.c.organization_id,
    CREDENTIALS.c.integration,
    CREDENTIALS.c.name,
    unique=True,
    sqlite_where=_LIVE,
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
    statement = sa.select(CREDENTIALS).where(_LIVE).order_by(table.created_at, table.id)
    for row in connection.execute(statement):
        fields = {name: getattr(row, name) for name in CredentialRecord.__struct_fields__}
        yield CredentialRecord(**fields), row.sealed


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
        .values(is_default=False)
    )


def note_change(connection: sa.Connection) -> None:
    """Tell every process, once this transaction commits, to look again."""
    bump_revision(connection, TOPIC)


# Managed models.

MANAGED_MODELS = sa.Table(
    "managed_models",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("model_id", sa.Text, nullable=False),
    sa.Column("credential_id", sa.Text, sa.ForeignKey("credentials.id"), nullable=False),
    sa.Column("wire_id", sa.Text, nullable=False),
    sa.Column("display_name", sa.Text, nullable=False),
    sa.Column("deprecated", sa.Boolean, nullable=False),
    sa.Column("replacement_id", sa.Text),
    sa.Column("is_default", sa.Boolean, nullable=False),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)
sa.Index("uq_managed_models_model_id", MANAGED_MODELS.c.model_id, unique=True)
sa.Index(
    "uq_managed_models_default",
    MANAGED_MODELS.c.is_default,
    unique=True,
    sqlite_where=MANAGED_MODELS.c.is_default,
    postgresql_where=MANAGED_MODELS.c.is_default,
)


def select_managed_models(connection: sa.Connection) -> list[ManagedModel]:
    """Every managed model, by the id that callers name."""
    statement = sa.select(MANAGED_MODELS).order_by(MANAGED_MODELS.c.model_id)
    names = ManagedModel.__struct_fields__
    return [
        ManagedModel(**{name: getattr(row, name) for name in names})
        for row in connection.execute(statement)
    ]


def select_platform_credentials(
    connection: sa.Connection, credential: str, *, integration: str
) -> list[str]:
    """The ids of the platform's own credentials of that id or name that were not deleted."""
    table = CREDENTIALS.c
    statement = sa.select(table.id).where(
        _LIVE,
        table.organization_id.is_(None),
        table.integration == integration,
        sa.or_(table.id == credential, table.name == credential),
    )
    return list(connection.execute(statement).scalars())


def insert_managed_model(connection: sa.Connection, managed: ManagedModel) -> None:
    """Add one managed model."""
    values: dict[str, Any] = msgspec.to_builtins(managed)
    connection.execute(sa.insert(MANAGED_MODELS).values(**values))


def update_managed_model(connection: sa.Connection, managed: ManagedModel) -> bool:
    """Store a managed model as it is now. False where another change came first: its version is
    not the one before this one."""
    values: dict[str, Any] = msgspec.to_builtins(managed)
    statement = sa.update(MANAGED_MODELS).where(
        MANAGED_MODELS.c.id == managed.id, MANAGED_MODELS.c.version == managed.version - 1
    )
    return connection.execute(statement.values(**values)).rowcount == 1


def clear_managed_default(connection: sa.Connection) -> None:
    """No managed model is the default any more."""
    connection.execute(
        sa.update(MANAGED_MODELS).where(MANAGED_MODELS.c.is_default).values(is_default=False)
    )


def delete_managed_model(connection: sa.Connection, managed_id: str) -> None:
    """Forget one managed model."""
    connection.execute(sa.delete(MANAGED_MODELS).where(MANAGED_MODELS.c.id == managed_id))
