"""The SQL of organizations and projects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import InactiveAccounts, Organization, Project
from headgate.kit.db.schema import METADATA, bump_revision, count_rows

# Every change bumps the revision of this topic, by which other processes notice it.
TOPIC = "accounts"

ORGANIZATIONS = sa.Table(
    "organizations",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("suspended_at", sa.Double),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("reporting_zone", sa.Text, nullable=False, server_default=sa.text("'UTC'")),
)

PROJECTS = sa.Table(
    "projects",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column(
        "organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False, index=True
    ),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("archived_at", sa.Double),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
)

ORGANIZATION_COLUMNS = [ORGANIZATIONS.c[name] for name in Organization.__struct_fields__]
PROJECT_COLUMNS = [PROJECTS.c[name] for name in Project.__struct_fields__]


def insert_organization(connection: sa.Connection, organization: Organization) -> None:
    connection.execute(sa.insert(ORGANIZATIONS).values(msgspec.structs.asdict(organization)))


def insert_project(connection: sa.Connection, project: Project) -> None:
    connection.execute(sa.insert(PROJECTS).values(msgspec.structs.asdict(project)))


def select_organizations(connection: sa.Connection) -> list[Organization]:
    rows = connection.execute(
        sa.select(*ORGANIZATION_COLUMNS).order_by(ORGANIZATIONS.c.created_at, ORGANIZATIONS.c.id)
    )
    return [Organization(*row) for row in rows]


def select_organization(connection: sa.Connection, organization_id: str) -> Organization | None:
    statement = sa.select(*ORGANIZATION_COLUMNS).where(ORGANIZATIONS.c.id == organization_id)
    row = connection.execute(statement).one_or_none()
    return None if row is None else Organization(*row)


def update_organization(
    connection: sa.Connection, organization_id: str, values: Mapping[str, Any]
) -> None:
    connection.execute(
        sa.update(ORGANIZATIONS)
        .where(ORGANIZATIONS.c.id == organization_id)
        .values(**values, version=ORGANIZATIONS.c.version + 1)
    )


def lock_organization(connection: sa.Connection, organization_id: str) -> None:
    """Lock the organization's row until the transaction ends."""
    # An update that changes nothing, since SQLite has no SELECT ... FOR UPDATE.
    connection.execute(
        sa.update(ORGANIZATIONS)
        .where(ORGANIZATIONS.c.id == organization_id)
        .values(version=ORGANIZATIONS.c.version)
    )


def select_projects(connection: sa.Connection) -> list[Project]:
    rows = connection.execute(
        sa.select(*PROJECT_COLUMNS).order_by(PROJECTS.c.created_at, PROJECTS.c.id)
    )
    return [Project(*row) for row in rows]


def select_projects_of(
    connection: sa.Connection,
    organization_id: str,
    *,
    archived: bool,
    among: Sequence[str],
    limit: int,
    offset: int,
) -> list[Project]:
    statement = (
        sa.select(*PROJECT_COLUMNS)
        .where(*_of(organization_id, archived=archived, among=among))
        .order_by(PROJECTS.c.created_at, PROJECTS.c.id)
        .limit(limit)
        .offset(offset)
    )
    return [Project(*row) for row in connection.execute(statement)]


def count_projects_of(
    connection: sa.Connection, organization_id: str, *, archived: bool, among: Sequence[str]
) -> int:
    conditions = _of(organization_id, archived=archived, among=among)
    return count_rows(connection, PROJECTS, *conditions)


def select_project(
    connection: sa.Connection, organization_id: str, project_id: str
) -> Project | None:
    statement = sa.select(*PROJECT_COLUMNS).where(
        PROJECTS.c.organization_id == organization_id, PROJECTS.c.id == project_id
    )
    row = connection.execute(statement).one_or_none()
    return None if row is None else Project(*row)


def update_project(connection: sa.Connection, project_id: str, values: Mapping[str, Any]) -> None:
    connection.execute(
        sa.update(PROJECTS)
        .where(PROJECTS.c.id == project_id)
        .values(**values, version=PROJECTS.c.version + 1)
    )


def select_organization_names(connection: sa.Connection) -> dict[str, str]:
    """Return the names of all organizations by id."""
    return _select_names(connection, ORGANIZATIONS)


def select_project_names(connection: sa.Connection) -> dict[str, str]:
    """Return the names of all projects by id."""
    return _select_names(connection, PROJECTS)


def _select_names(connection: sa.Connection, table: sa.Table) -> dict[str, str]:
    return {row.id: row.name for row in connection.execute(sa.select(table.c.id, table.c.name))}


def select_reporting_zones(
    connection: sa.Connection, organization_id: str | None
) -> dict[str, str]:
    statement = sa.select(ORGANIZATIONS.c.id, ORGANIZATIONS.c.reporting_zone)
    if organization_id is not None:
        statement = statement.where(ORGANIZATIONS.c.id == organization_id)
    return {row.id: row.reporting_zone for row in connection.execute(statement)}


def select_inactive_accounts(connection: sa.Connection) -> InactiveAccounts:
    archived = sa.select(PROJECTS.c.id).where(PROJECTS.c.archived_at.is_not(None))
    suspended = sa.select(ORGANIZATIONS.c.id).where(ORGANIZATIONS.c.suspended_at.is_not(None))
    return InactiveAccounts(
        frozenset(connection.execute(archived).scalars()),
        frozenset(connection.execute(suspended).scalars()),
    )


def note_change(connection: sa.Connection) -> None:
    """Make every process reload, once this transaction commits."""
    bump_revision(connection, TOPIC)


def _of(
    organization_id: str, *, archived: bool, among: Sequence[str]
) -> list[sa.ColumnElement[bool]]:
    conditions: list[sa.ColumnElement[bool]] = [PROJECTS.c.organization_id == organization_id]
    if not archived:
        conditions.append(PROJECTS.c.archived_at.is_(None))
    if among:
        conditions.append(PROJECTS.c.id.in_(among))
    return conditions
