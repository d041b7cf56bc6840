"""All people of the installation, for its operator."""

from __future__ import annotations

import datetime

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import LastOwnerError, Person
from headgate.api.access import platform
from headgate.api.operation import Operations, RequestContext
from headgate.api.pages import PageQuery
from headgate.api.shapes import Empty, to_datetime, to_optional_datetime

OPERATIONS = Operations("People", "Everybody who can sign in; for the operator.")
READ = platform("platform:read")
WRITE = platform("platform:write")


class PlatformPersonResponse(msgspec.Struct):
    """A person. `disabled_at`: since when they are let in nowhere."""

    id: str
    email: str
    name: str
    is_operator: bool
    created_at: datetime.datetime
    email_verified_at: datetime.datetime | None
    disabled_at: datetime.datetime | None
    version: int


class PlatformPersonPage(msgspec.Struct):
    """The oldest first."""

    people: list[PlatformPersonResponse]
    total: int
    limit: int
    offset: int


@OPERATIONS.get("/api/platform/people", access=READ, summary="List all people")
async def list_people(context: RequestContext[PageQuery, Empty]) -> PlatformPersonPage:
    """Also those who are disabled."""
    query = context.query
    people, total = await context.read(
        lambda connection: context.services.people.list(
            connection, limit=query.limit, offset=query.offset
        )
    )
    shown = [to_platform_person_response(each) for each in people]
    return PlatformPersonPage(shown, total, query.limit, query.offset)


@OPERATIONS.post(
    "/api/platform/people/{person_id}/disable", access=WRITE, summary="Disable a person"
)
async def disable_person(context: RequestContext[Empty, Empty]) -> PlatformPersonResponse:
    """Their sessions end at once, and no issuer lets them in. Not for oneself."""

    def disable(connection: sa.Connection) -> Person:
        person = context.services.people.get(connection, context.path["person_id"])
        if person.id == context.principal.id:
            raise LastOwnerError("Another operator has to do this: it is you.")
        return context.services.people.disable(connection, person, by=context.actor)

    return to_platform_person_response(await context.write(disable))


@OPERATIONS.post("/api/platform/people/{person_id}/enable", access=WRITE, summary="Enable a person")
async def enable_person(context: RequestContext[Empty, Empty]) -> PlatformPersonResponse:
    """They can sign in again; their roles are as they were."""

    def enable(connection: sa.Connection) -> Person:
        person = context.services.people.get(connection, context.path["person_id"])
        return context.services.people.enable(connection, person, by=context.actor)

    return to_platform_person_response(await context.write(enable))


def to_platform_person_response(person: Person) -> PlatformPersonResponse:
    """A person as the API writes them for the operator."""
    return PlatformPersonResponse(
        id=person.id,
        email=person.email,
        name=person.name,
        is_operator=person.is_operator,
        created_at=to_datetime(person.created_at),
        email_verified_at=to_optional_datetime(person.email_verified_at),
        disabled_at=to_optional_datetime(person.disabled_at),
        version=person.version,
    )
