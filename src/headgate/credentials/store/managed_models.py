"""All SQL of the models that the platform sells."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.credentials.model.managed_model import ManagedModel
from headgate.credentials.store.credentials import CREDENTIALS, LIVE
from headgate.kit.db.schema import METADATA

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
    connection: sa.Connection, credential: str | None = None
) -> dict[str, str]:
    """The platform's own credentials that were not deleted, by their ids, with the integration of
    each; of all, or of that id or name."""
    table = CREDENTIALS.c
    statement = sa.select(table.id, table.integration).where(LIVE, table.organization_id.is_(None))
    if credential is not None:
        statement = statement.where(sa.or_(table.id == credential, table.name == credential))
    return {row.id: row.integration for row in connection.execute(statement)}


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
    """No managed model is the default any more; for the one that was, that is a change."""
    table = MANAGED_MODELS.c
    connection.execute(
        sa.update(MANAGED_MODELS)
        .where(table.is_default)
        .values(is_default=False, version=table.version + 1)
    )


def delete_managed_model(connection: sa.Connection, managed_id: str) -> None:
    """Forget one managed model."""
    connection.execute(sa.delete(MANAGED_MODELS).where(MANAGED_MODELS.c.id == managed_id))
