"""The SQL of managed models."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.credentials.model.managed_model import ManagedModel
from headgate.credentials.store.credentials import CREDENTIALS, LIVE
from headgate.kit.db.schema import METADATA, declare_unique

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
declare_unique(
    "uq_managed_models_default", MANAGED_MODELS.c.is_default, where=MANAGED_MODELS.c.is_default
)


def select_managed_models(connection: sa.Connection) -> list[ManagedModel]:
    """Return all managed models, ordered by model id."""
    statement = sa.select(MANAGED_MODELS).order_by(MANAGED_MODELS.c.model_id)
    names = ManagedModel.__struct_fields__
    return [
        ManagedModel(**{name: getattr(row, name) for name in names})
        for row in connection.execute(statement)
    ]


def select_platform_credentials(
    connection: sa.Connection, credential: str | None = None
) -> dict[str, str]:
    """Return the integration of each platform credential by id. Deleted ones are left out;
    `credential` restricts to an id or a name."""
    table = CREDENTIALS.c
    statement = sa.select(table.id, table.integration).where(LIVE, table.organization_id.is_(None))
    if credential is not None:
        statement = statement.where(sa.or_(table.id == credential, table.name == credential))
    return {row.id: row.integration for row in connection.execute(statement)}


def insert_managed_model(connection: sa.Connection, managed: ManagedModel) -> None:
    values: dict[str, Any] = msgspec.to_builtins(managed)
    connection.execute(sa.insert(MANAGED_MODELS).values(**values))


def update_managed_model(connection: sa.Connection, managed: ManagedModel) -> bool:
    """Store a managed model. Return False if the stored version is not the one before it."""
    values: dict[str, Any] = msgspec.to_builtins(managed)
    statement = sa.update(MANAGED_MODELS).where(
        MANAGED_MODELS.c.id == managed.id, MANAGED_MODELS.c.version == managed.version - 1
    )
    return connection.execute(statement.values(**values)).rowcount == 1


def clear_managed_default(connection: sa.Connection) -> None:
    """Unset the default, which counts as a change of the model that was it."""
    table = MANAGED_MODELS.c
    connection.execute(
        sa.update(MANAGED_MODELS)
        .where(table.is_default)
        .values(is_default=False, version=table.version + 1)
    )


def delete_managed_model(connection: sa.Connection, managed_id: str) -> None:
    connection.execute(sa.delete(MANAGED_MODELS).where(MANAGED_MODELS.c.id == managed_id))
