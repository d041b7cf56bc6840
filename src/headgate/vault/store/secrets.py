"""The SQL of stored secrets."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, count_rows, declare_unique
from headgate.vault.model.secret import SecretRecord

SECRETS = sa.Table(
    "secrets",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False),
    sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id"), index=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("origin", sa.Text, nullable=False),
    sa.Column("sealed", sa.LargeBinary),
    sa.Column("key_id", sa.Text, sa.ForeignKey("organization_keys.id"), nullable=False, index=True),
    sa.Column("seal_number", sa.BigInteger, nullable=False),
    sa.Column("hint", sa.Text, nullable=False),
    sa.Column("service_type", sa.Text),
    sa.Column("description", sa.Text),
    sa.Column("created_by", sa.Text),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
)
_OF_ORGANIZATION = SECRETS.c.project_id.is_(None)
_OF_PROJECT = SECRETS.c.project_id.is_not(None)
_FIELDS = SecretRecord.__struct_fields__

declare_unique(
    "uq_secrets_organization_id", SECRETS.c.organization_id, SECRETS.c.name, where=_OF_ORGANIZATION
)
declare_unique(
    "uq_secrets_project_id",
    SECRETS.c.organization_id,
    SECRETS.c.project_id,
    SECRETS.c.name,
    where=_OF_PROJECT,
)


def insert_secret(connection: sa.Connection, record: SecretRecord, *, sealed: bytes) -> None:
    values: dict[str, Any] = msgspec.to_builtins(record)
    connection.execute(sa.insert(SECRETS).values(sealed=sealed, **values))


def update_secret(connection: sa.Connection, record: SecretRecord, *, sealed: bytes) -> None:
    values: dict[str, Any] = msgspec.to_builtins(record)
    connection.execute(
        sa.update(SECRETS)
        .where(SECRETS.c.id == record.id, SECRETS.c.organization_id == record.organization_id)
        .values(sealed=sealed, **values)
    )


def delete_secret(connection: sa.Connection, record: SecretRecord) -> None:
    connection.execute(
        sa.delete(SECRETS).where(
            SECRETS.c.id == record.id, SECRETS.c.organization_id == record.organization_id
        )
    )


def find_secret(
    connection: sa.Connection, organization_id: str, project_id: str | None, *, name: str
) -> tuple[SecretRecord, bytes] | None:
    """Return the secret of that name of a project, or of the organization (None), and its seal."""
    statement = sa.select(SECRETS).where(*_place(organization_id, project_id))
    row = connection.execute(statement.where(SECRETS.c.name == name)).one_or_none()
    return None if row is None else (_record(row), row.sealed or b"")


def select_secrets(
    connection: sa.Connection,
    organization_id: str,
    project_id: str | None,
    *,
    limit: int,
    offset: int,
) -> tuple[list[SecretRecord], int]:
    """Return a page of the secrets of a project, or of the organization, by name; and the total."""
    place = _place(organization_id, project_id)
    statement = sa.select(SECRETS).where(*place).order_by(SECRETS.c.name)
    rows = connection.execute(statement.limit(limit).offset(offset))
    found = [_record(row) for row in rows]
    return found, count_rows(connection, SECRETS, *place)


def select_organization_secrets(
    connection: sa.Connection,
) -> Iterator[tuple[SecretRecord, bytes]]:
    """Yield all secrets of organizations, with their seals: those that credentials may refer to."""
    for row in connection.execute(sa.select(SECRETS).where(_OF_ORGANIZATION)):
        yield _record(row), row.sealed or b""


def _place(organization_id: str, project_id: str | None) -> tuple[sa.ColumnElement[bool], ...]:
    return (
        SECRETS.c.organization_id == organization_id,
        SECRETS.c.project_id.is_not_distinct_from(project_id),
    )


def _record(row: sa.Row[Any]) -> SecretRecord:
    return SecretRecord(**{name: getattr(row, name) for name in _FIELDS})
