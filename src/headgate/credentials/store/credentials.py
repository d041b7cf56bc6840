"""The SQL of credentials."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.credentials.model.credential import CredentialRecord
from headgate.kit.db.schema import METADATA, declare_unique

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
declare_unique(
    "uq_credentials_default",
    CREDENTIALS.c.organization_id,
    CREDENTIALS.c.integration,
    where=_ONE_DEFAULT,
)


def insert_credential(
    connection: sa.Connection, record: CredentialRecord, *, sealed: bytes
) -> None:
    values: dict[str, Any] = msgspec.to_builtins(record)
    connection.execute(sa.insert(CREDENTIALS).values(sealed=sealed, **values))


def select_credentials(connection: sa.Connection) -> Iterator[tuple[CredentialRecord, bytes]]:
    """Yield credentials that were not deleted, with their sealed secrets, oldest first."""
    table = CREDENTIALS.c
    statement = sa.select(CREDENTIALS).where(LIVE).order_by(table.created_at, table.id)
    for row in connection.execute(statement):
        yield read_credential(row), row.sealed or b""


def read_credential(row: sa.Row[Any]) -> CredentialRecord:
    return CredentialRecord(**{name: getattr(row, name) for name in _FIELDS})


def update_credential(
    connection: sa.Connection, credential_id: str, values: Mapping[str, Any]
) -> None:
    connection.execute(
        sa.update(CREDENTIALS).where(CREDENTIALS.c.id == credential_id).values(**values)
    )


def clear_default(
    connection: sa.Connection, organization_id: str | None, *, integration: str
) -> None:
    connection.execute(
        sa.update(CREDENTIALS)
        .where(
            CREDENTIALS.c.organization_id.is_not_distinct_from(organization_id),
            CREDENTIALS.c.integration == integration,
            CREDENTIALS.c.is_default,
        )
        .values(is_default=False, version=CREDENTIALS.c.version + 1)
    )
