"""The SQL that finds and lists an organization's credentials."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.credentials.model.credential import CredentialRecord
from headgate.credentials.store.credentials import CREDENTIALS, LIVE, read_credential


class CredentialFilter(msgspec.Struct, frozen=True):
    """Select credentials of an organization; None does not restrict."""

    organization_id: str
    integration: str | None = None
    auth_type: str | None = None


def find_credential(
    connection: sa.Connection, organization_id: str, credential_id: str, *, removed: bool = False
) -> tuple[CredentialRecord, bytes] | None:
    """Return a credential of this organization with its sealed secret. With `removed`, also one
    that was removed, whose secret is empty."""
    table = CREDENTIALS.c
    statement = sa.select(CREDENTIALS).where(
        table.id == credential_id, table.organization_id == organization_id
    )
    if not removed:
        statement = statement.where(LIVE)
    row = connection.execute(statement).one_or_none()
    return None if row is None else (read_credential(row), row.sealed or b"")


def select_page(
    connection: sa.Connection, filters: CredentialFilter, *, limit: int, offset: int
) -> list[CredentialRecord]:
    """Return a page, newest first."""
    table = CREDENTIALS.c
    statement = (
        sa.select(CREDENTIALS)
        .where(*_conditions(filters))
        .order_by(table.created_at.desc(), table.id.desc())
        .limit(limit)
        .offset(offset)
    )
    return [read_credential(row) for row in connection.execute(statement)]


def select_usable(
    connection: sa.Connection, organization_id: str
) -> Sequence[sa.Row[Any, Any, Any, Any]]:
    """Return id, organization, name and integration of the credentials of an organization, then of
    the platform's."""
    table = CREDENTIALS.c
    statement = (
        sa.select(table.id, table.organization_id, table.name, table.integration)
        .where(
            LIVE, sa.or_(table.organization_id == organization_id, table.organization_id.is_(None))
        )
        .order_by(table.organization_id.is_(None), table.id)
    )
    return connection.execute(statement).all()


def count_kinds(connection: sa.Connection, filters: CredentialFilter) -> dict[tuple[str, str], int]:
    table = CREDENTIALS.c
    statement = (
        sa.select(table.integration, table.auth_type, sa.func.count())
        .where(*_conditions(filters))
        .group_by(table.integration, table.auth_type)
        .order_by(table.integration, table.auth_type)
    )
    return {(row[0], row[1]): row[2] for row in connection.execute(statement)}


def _conditions(filters: CredentialFilter) -> Iterator[sa.ColumnElement[bool]]:
    table = CREDENTIALS.c
    yield table.organization_id == filters.organization_id
    yield LIVE
    if filters.integration is not None:
        yield table.integration == filters.integration
    if filters.auth_type is not None:
        yield table.auth_type == filters.auth_type
