"""All people with an account on the server, for its operator."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.accounts.model import LastOwnerError, Person
from headgate.api.access import platform
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.pages import PageQuery
from headgate.api.schemas.people import (
    PlatformPersonPage,
    PlatformPersonResponse,
    to_platform_person_response,
)

OPERATIONS = Operations(
    "People", "Everybody who has an account on the server; only for the operator of the server."
)
READ = platform("platform:read")
WRITE = platform("platform:write")


@OPERATIONS.get("/api/platform/people", access=READ, summary="List all people")
async def list_people(context: RequestContext[PageQuery, Empty]) -> PlatformPersonPage:
    """Return everybody who has an account on this server, oldest first, including people who are
    disabled; only for the operator of the server."""
    query = context.query
    people, total = await context.read(
        lambda connection: context.services.people.list(
            connection, limit=query.limit, offset=query.offset
        )
    )
    responses = [to_platform_person_response(each) for each in people]
    return PlatformPersonPage(responses, **query.position(total))


@OPERATIONS.post(
    "/api/platform/people/{person_id}/disable", access=WRITE, summary="Disable a person"
)
async def disable_person(context: RequestContext[Empty, Empty]) -> PlatformPersonResponse:
    """Disable a person and end all their sessions. Logins are rejected from now on, including
    single sign-on. Operators cannot disable themselves."""

    def disable(connection: sa.Connection) -> Person:
        person = context.services.people.get(connection, context.path["person_id"])
        if person.id == context.principal.id:
            raise LastOwnerError("You cannot disable yourself. Another operator has to do it.")
        return context.services.people.disable(connection, person, by=context.actor)

    return to_platform_person_response(await context.write(disable))


@OPERATIONS.post("/api/platform/people/{person_id}/enable", access=WRITE, summary="Enable a person")
async def enable_person(context: RequestContext[Empty, Empty]) -> PlatformPersonResponse:
    """Let a disabled person sign in again, with the roles they had before."""

    def enable(connection: sa.Connection) -> Person:
        person = context.services.people.get(connection, context.path["person_id"])
        return context.services.people.enable(connection, person, by=context.actor)

    return to_platform_person_response(await context.write(enable))
