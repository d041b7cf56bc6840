"""All SQL of organizations and projects."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.accounts.model import Organization, Project
from headgate.kit.db.schema import METADATA

ORGANIZATIONS = sa.Table(
    "organizations",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
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
)


def insert_organization(connection: sa.Connection, organization: Organization) -> None:
    """Add one organization."""
    connection.execute(
        sa.insert(ORGANIZATIONS).values(
            id=organization.id, name=organization.name, created_at=organization.created_at
        )
    )


def insert_project(connection: sa.Connection, project: Project) -> None:
    """Add one project."""
    connection.execute(
        sa.insert(PROJECTS).values(
            id=project.id,
            organization_id=project.organization_id,
            name=project.name,
            created_at=project.created_at,
        )
    )


def select_organizations(connection: sa.Connection) -> list[Organization]:
    """Every organization, the oldest first."""
    rows = connection.execute(
        sa.select(ORGANIZATIONS).order_by(ORGANIZATIONS.c.created_at, ORGANIZATIONS.c.id)
    )
    return [Organization(row.id, row.name, row.created_at) for row in rows]


def select_projects(connection: sa.Connection) -> list[Project]:
    """Every project, the oldest first."""
    rows = connection.execute(sa.select(PROJECTS).order_by(PROJECTS.c.created_at, PROJECTS.c.id))
    return [Project(row.id, row.organization_id, row.name, row.created_at) for row in rows]
