"""The applications that people connected to the organization's projects (docs/oauth.md)."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.connected_applications import (
    ConnectedApplicationPage,
    ConnectedApplicationQuery,
    ConnectedApplicationResponse,
    to_application_response,
)
from headgate.api.schemas.fields import Empty
from headgate.oauth.model.errors import ApplicationNotFoundError
from headgate.oauth.service import ApplicationDetails, ApplicationFilter

OPERATIONS = Operations(
    "Connected applications",
    "Agents and other applications that people connected by signing in, with OAuth.",
)
READ = organization("applications:read")
WRITE = organization("applications:write")


@OPERATIONS.get("/api/connected-applications", access=READ, summary="List connected applications")
async def list_connected_applications(
    context: RequestContext[ConnectedApplicationQuery, Empty],
) -> ConnectedApplicationPage:
    """Return the applications that people connected to projects of the organization, newest first,
    with who connected each one, to which project, and what it may do. Disconnected ones are not
    included."""
    query = context.query
    selected = ApplicationFilter(
        organization_id=context.organization_id,
        person_id=query.person_id,
        among=context.principal.projects,
    )
    page, total = await context.read(
        lambda connection: context.services.oauth.applications.list_page(
            connection, selected, limit=query.limit, offset=query.offset
        )
    )
    now = context.services.clock.now()
    applications = [to_application_response(each, now) for each in page]
    return ConnectedApplicationPage(applications=applications, **query.position(total))


@OPERATIONS.get(
    "/api/connected-applications/{application_id}",
    access=READ,
    summary="Read a connected application",
)
async def get_connected_application(
    context: RequestContext[Empty, Empty],
) -> ConnectedApplicationResponse:
    """Return one connected application. The answer is 404 after it was disconnected."""
    details = await context.read(lambda connection: find(context, connection))
    return to_application_response(details, context.services.clock.now())


@OPERATIONS.delete(
    "/api/connected-applications/{application_id}",
    access=WRITE,
    status=204,
    summary="Revoke a connected application",
    is_versioned=False,
)
async def revoke_connected_application(context: RequestContext[Empty, Empty]) -> None:
    """Disconnect an application for good: its tokens are refused at once, and its API key is
    revoked. The person has to connect it again to use it."""

    def revoke(connection: sa.Connection) -> None:
        application = find(context, connection).application
        context.services.oauth.applications.revoke(connection, application, by=context.actor)

    await context.write(revoke)
    context.services.oauth.access_tokens.forget()


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> ApplicationDetails:
    """Return the application that the path names. Raise `ApplicationNotFoundError`."""
    details = context.services.oauth.applications.get(
        connection, context.organization_id, context.path["application_id"]
    )
    if not context.principal.may_see_project(details.application.project_id):
        raise ApplicationNotFoundError("There is no such connected application.")
    return details
