"""The SQL of connected applications."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, count_rows
from headgate.oauth.model.grant import ConnectedApplication

APPLICATIONS = sa.Table(
    "connected_applications",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False),
    sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id"), nullable=False),
    sa.Column("person_id", sa.Text, sa.ForeignKey("people.id"), nullable=False, index=True),
    sa.Column("key_id", sa.Text, sa.ForeignKey("keys.id"), nullable=False, unique=True),
    sa.Column("client_id", sa.Text, nullable=False),
    sa.Column("client_name", sa.Text, nullable=False),
    sa.Column("redirect_host", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("revoked_at", sa.Double),
    sa.Column("connected_at", sa.Double),
)
sa.Index(
    "ix_connected_applications_listing",
    APPLICATIONS.c.organization_id,
    APPLICATIONS.c.created_at,
    APPLICATIONS.c.id,
)

_FIELDS = ConnectedApplication.__struct_fields__
APPLICATION_COLUMNS = [APPLICATIONS.c[name] for name in _FIELDS]


class ApplicationFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Select applications of an organization that are not revoked; of one person, and of some
    projects, if they are given."""

    organization_id: str
    person_id: str | None = None
    among: tuple[str, ...] = ()


def insert_application(connection: sa.Connection, application: ConnectedApplication) -> None:
    connection.execute(sa.insert(APPLICATIONS).values(**msgspec.structs.asdict(application)))


def select_application(
    connection: sa.Connection, application_id: str, *, organization_id: str | None = None
) -> ConnectedApplication | None:
    statement = sa.select(*APPLICATION_COLUMNS).where(APPLICATIONS.c.id == application_id)
    if organization_id is not None:
        statement = statement.where(APPLICATIONS.c.organization_id == organization_id)
    row = connection.execute(statement).one_or_none()
    return None if row is None else read_application(row)


def select_same_applications(
    connection: sa.Connection, *, person_id: str, project_id: str, client_id: str
) -> list[ConnectedApplication]:
    """Return the unrevoked connections of one client by one person to one project, newest first."""
    statement = (
        sa.select(*APPLICATION_COLUMNS)
        .where(
            APPLICATIONS.c.person_id == person_id,
            APPLICATIONS.c.project_id == project_id,
            APPLICATIONS.c.client_id == client_id,
            APPLICATIONS.c.revoked_at.is_(None),
        )
        .order_by(APPLICATIONS.c.created_at.desc(), APPLICATIONS.c.id.desc())
    )
    return [read_application(row) for row in connection.execute(statement)]


def select_applications(
    connection: sa.Connection, selected: ApplicationFilter, *, limit: int, offset: int
) -> list[ConnectedApplication]:
    """Return a page, the newest first."""
    statement = (
        sa.select(*APPLICATION_COLUMNS)
        .where(*_conditions(selected))
        .order_by(APPLICATIONS.c.created_at.desc(), APPLICATIONS.c.id.desc())
        .limit(limit)
        .offset(offset)
    )
    return [read_application(row) for row in connection.execute(statement)]


def count_applications(connection: sa.Connection, selected: ApplicationFilter) -> int:
    return count_rows(connection, APPLICATIONS, *_conditions(selected))


def read_application(row: Any) -> ConnectedApplication:
    return ConnectedApplication(**{name: getattr(row, name) for name in _FIELDS})


def _conditions(selected: ApplicationFilter) -> list[sa.ColumnElement[bool]]:
    found = [
        APPLICATIONS.c.organization_id == selected.organization_id,
        APPLICATIONS.c.revoked_at.is_(None),
    ]
    if selected.person_id is not None:
        found.append(APPLICATIONS.c.person_id == selected.person_id)
    if selected.among:
        found.append(APPLICATIONS.c.project_id.in_(selected.among))
    return found
