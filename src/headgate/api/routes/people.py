"""All people of the installation, for its operator."""

from __future__ import annotations

import datetime

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import LastOwnerError, Person
from headgate.api.access import platform
from headgate.api.operation import Ask, Operations
from headgate.api.pages import PageQuery
from headgate.api.shapes import Nothing, show_time, show_time_if_any

OPERATIONS = Operations("People", "Everybody who can sign in; for the operator.")
READ = platform("platform:read")
WRITE = platform("platform:write")


class PlatformPerson(msgspec.Struct):
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

    people: list[PlatformPerson]
    total: int
    limit: int
    offset: int


@OPERATIONS.get("/api/platform/people", access=READ, summary="List all people")
async def list_people(ask: Ask[PageQuery, Nothing]) -> PlatformPersonPage:
    """Also those who are disabled."""
    query = ask.query
    people, total = await ask.read(
        lambda connection: ask.services.people.list(
            connection, limit=query.limit, offset=query.offset
        )
    )
    shown = [show_platform_person(each) for each in people]
    return PlatformPersonPage(shown, total, query.limit, query.offset)


@OPERATIONS.post(
    "/api/platform/people/{person_id}/disable", access=WRITE, summary="Disable a person"
)
async def disable_person(ask: Ask[Nothing, Nothing]) -> PlatformPerson:
    """Their sessions end at once, and no issuer lets them in. Not for oneself."""

    def disable(connection: sa.Connection) -> Person:
        person = ask.services.people.get(connection, ask.path["person_id"])
        if person.id == ask.principal.id:
            raise LastOwnerError("Another operator has to do this: it is you.")
        return ask.services.people.disable(connection, person, by=ask.actor)

    return show_platform_person(await ask.write(disable))


@OPERATIONS.post("/api/platform/people/{person_id}/enable", access=WRITE, summary="Enable a person")
async def enable_person(ask: Ask[Nothing, Nothing]) -> PlatformPerson:
    """They can sign in again; their roles are as they were."""

    def enable(connection: sa.Connection) -> Person:
        person = ask.services.people.get(connection, ask.path["person_id"])
        return ask.services.people.enable(connection, person, by=ask.actor)

    return show_platform_person(await ask.write(enable))


def show_platform_person(person: Person) -> PlatformPerson:
    """A person as the API writes them for the operator."""
    return PlatformPerson(
        id=person.id,
        email=person.email,
        name=person.name,
        is_operator=person.is_operator,
        created_at=show_time(person.created_at),
        email_verified_at=show_time_if_any(person.email_verified_at),
        disabled_at=show_time_if_any(person.disabled_at),
        version=person.version,
    )
