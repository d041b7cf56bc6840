"""The projects of an organization."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.accounts.model import AccountNotFoundError, Project
from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.quotas import check_plan
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.projects import (
    ProjectFields,
    ProjectPage,
    ProjectQuery,
    ProjectResponse,
    to_project_response,
)

OPERATIONS = Operations("Projects", "Parts of an organization that API keys and calls belong to.")
READ = organization("projects:read")
WRITE = organization("projects:write")


@OPERATIONS.get("/api/projects", access=READ, summary="List projects")
async def list_projects(context: RequestContext[ProjectQuery, Empty]) -> ProjectPage:
    """Return the projects of the organization, oldest first. Archived projects are returned only
    with `archived=true`."""
    query = context.query
    projects, total = await context.read(
        lambda connection: context.services.accounts.list_projects(
            connection,
            context.organization_id,
            archived=query.archived,
            among=context.principal.projects,
            limit=query.limit,
            offset=query.offset,
        )
    )
    return ProjectPage([to_project_response(each) for each in projects], **query.position(total))


@OPERATIONS.post(
    "/api/projects",
    access=WRITE,
    status=201,
    summary="Create a project",
    example={"name": "Search"},
)
async def create_project(context: RequestContext[Empty, ProjectFields]) -> ProjectResponse:
    """Create a project in the organization. A management key that is limited to some projects
    cannot create another one."""
    context.principal.check_organization_wide()

    def create(connection: sa.Connection) -> ProjectResponse:
        check_plan(context, connection, "projects")
        project = context.services.accounts.create_project(
            connection,
            context.body.name,
            organization_id=context.organization_id,
            by=context.actor,
        )
        return to_project_response(project)

    return await context.create(create)


@OPERATIONS.get("/api/projects/{project_id}", access=READ, summary="Read a project")
async def get_project(context: RequestContext[Empty, Empty]) -> ProjectResponse:
    """Return one project, which may be archived."""
    return to_project_response(await context.read(lambda connection: find(context, connection)))


@OPERATIONS.patch(
    "/api/projects/{project_id}",
    access=WRITE,
    summary="Rename a project",
    example={"name": "Search and browse"},
)
async def update_project(context: RequestContext[Empty, ProjectFields]) -> ProjectResponse:
    """Change the name of a project. Its API keys and its usage records stay with it."""

    def rename(connection: sa.Connection) -> Project:
        project = context.check_version(find(context, connection))
        return context.services.accounts.rename_project(
            connection, project, context.body.name, by=context.actor
        )

    return to_project_response(await context.write(rename))


@OPERATIONS.delete(
    "/api/projects/{project_id}", access=WRITE, status=204, summary="Archive a project"
)
async def archive_project(context: RequestContext[Empty, Empty]) -> None:
    """Reject the API keys of the project from now on. Its usage records remain readable."""

    def archive(connection: sa.Connection) -> None:
        project = context.check_version(find(context, connection))
        context.services.accounts.archive_project(connection, project, by=context.actor)

    await context.write(archive)


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> Project:
    """Return the project of the path. Raise `AccountNotFoundError` if the principal may not see
    it."""
    project_id = context.path["project_id"]
    if not context.principal.may_see_project(project_id):
        raise AccountNotFoundError("There is no such project.")
    return context.services.accounts.get_project(connection, context.organization_id, project_id)
