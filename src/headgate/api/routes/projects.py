"""The projects of an organization."""

from __future__ import annotations

import datetime
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import AccountNotFoundError, Project
from headgate.api.access import organization
from headgate.api.operation import Ask, Operations
from headgate.api.pages import PageQuery
from headgate.api.shapes import Name, Nothing, show_time, show_time_if_any

OPERATIONS = Operations("Projects", "Parts of an organization, to which keys and calls belong.")
READ = organization("projects:read")
WRITE = organization("projects:write")


class ProjectQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which projects."""

    archived: bool = False


class ProjectFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be said of a project."""

    name: Name


class ShownProject(msgspec.Struct):
    """A project. `archived_at`: since when its keys are refused."""

    id: str
    organization_id: str
    name: str
    created_at: datetime.datetime
    archived_at: datetime.datetime | None
    version: int


class ProjectPage(msgspec.Struct):
    """The oldest first."""

    projects: list[ShownProject]
    total: int
    limit: int
    offset: int


@OPERATIONS.get("/api/projects", access=READ, summary="List projects")
async def list_projects(ask: Ask[ProjectQuery, Nothing]) -> ProjectPage:
    """Archived ones only with `archived=true`."""
    query = ask.query
    projects, total = await ask.read(
        lambda connection: ask.services.accounts.list_projects(
            connection,
            ask.organization_id,
            archived=query.archived,
            among=ask.principal.projects,
            limit=query.limit,
            offset=query.offset,
        )
    )
    return ProjectPage([show_project(each) for each in projects], total, query.limit, query.offset)


@OPERATIONS.post(
    "/api/projects",
    access=WRITE,
    status=201,
    summary="Create a project",
    example={"name": "Search"},
)
async def create_project(ask: Ask[Nothing, ProjectFields]) -> ShownProject:
    """A key that is limited to some projects cannot make another one."""
    ask.principal.check_organization_wide()
    return await ask.create(
        lambda connection: show_project(
            ask.services.accounts.create_project(
                connection, ask.body.name, organization_id=ask.organization_id, by=ask.actor
            )
        )
    )


@OPERATIONS.get("/api/projects/{project_id}", access=READ, summary="Read a project")
async def get_project(ask: Ask[Nothing, Nothing]) -> ShownProject:
    """Also an archived one."""
    return show_project(await ask.read(lambda connection: find(ask, connection)))


@OPERATIONS.patch(
    "/api/projects/{project_id}",
    access=WRITE,
    summary="Rename a project",
    example={"name": "Search and browse"},
)
async def update_project(ask: Ask[Nothing, ProjectFields]) -> ShownProject:
    """Its keys and receipts stay with it."""

    def rename(connection: sa.Connection) -> Project:
        project = find(ask, connection)
        ask.check_match(project.version)
        return ask.services.accounts.rename_project(
            connection, project, ask.body.name, by=ask.actor
        )

    return show_project(await ask.write(rename))


@OPERATIONS.delete(
    "/api/projects/{project_id}", access=WRITE, status=204, summary="Archive a project"
)
async def archive_project(ask: Ask[Nothing, Nothing]) -> None:
    """Its keys are refused from now on; what it used stays to be read."""

    def archive(connection: sa.Connection) -> None:
        project = find(ask, connection)
        ask.check_match(project.version)
        ask.services.accounts.archive_project(connection, project, by=ask.actor)

    await ask.write(archive)


def find(ask: Ask[Any, Any], connection: sa.Connection) -> Project:
    """The project of the path. `AccountNotFoundError` for one that this caller may not know of."""
    project_id = ask.path["project_id"]
    if not ask.principal.may_see_project(project_id):
        raise AccountNotFoundError("There is no such project.")
    return ask.services.accounts.get_project(connection, ask.organization_id, project_id)


def show_project(project: Project) -> ShownProject:
    """A project as the API writes it."""
    return ShownProject(
        id=project.id,
        organization_id=project.organization_id,
        name=project.name,
        created_at=show_time(project.created_at),
        archived_at=show_time_if_any(project.archived_at),
        version=project.version,
    )
