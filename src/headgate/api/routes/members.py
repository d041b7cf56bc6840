"""The members of an organization and their roles."""

from __future__ import annotations

import datetime
import enum
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import Member, Role
from headgate.api.access import organization
from headgate.api.operation import Ask, Operations
from headgate.api.pages import PageQuery
from headgate.api.shapes import Nothing, show_time, show_time_if_any

OPERATIONS = Operations("Members", "The people of an organization, and what they may do in it.")
READ = organization("people:read")
WRITE = organization("people:write")


class GivenRole(enum.Enum):
    """A role that can be given: an admin manages all but owners."""

    OWNER = "owner"
    ADMIN = "admin"


class MemberFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be changed of a membership."""

    role: GivenRole


class ShownMember(msgspec.Struct):
    """A member. `disabled_at`: since when the operator lets them in nowhere."""

    id: str
    email: str
    name: str
    role: str
    created_at: datetime.datetime
    disabled_at: datetime.datetime | None
    version: int


class MemberPage(msgspec.Struct):
    """The oldest first."""

    members: list[ShownMember]
    total: int
    limit: int
    offset: int


@OPERATIONS.get("/api/members", access=READ, summary="List members")
async def list_members(ask: Ask[PageQuery, Nothing]) -> MemberPage:
    """All people of the organization, also those whose role confers nothing."""
    query = ask.query
    members, total = await ask.read(
        lambda connection: ask.services.members.list(
            connection, ask.organization_id, limit=query.limit, offset=query.offset
        )
    )
    return MemberPage([show_member(each) for each in members], total, query.limit, query.offset)


@OPERATIONS.get("/api/members/{person_id}", access=READ, summary="Read a member")
async def get_member(ask: Ask[Nothing, Nothing]) -> ShownMember:
    """Somebody of this organization; anybody else is not found."""
    return show_member(await ask.read(lambda connection: find(ask, connection)))


@OPERATIONS.patch(
    "/api/members/{person_id}",
    access=WRITE,
    summary="Change a member's role",
    example={"role": "admin"},
)
async def update_member(ask: Ask[Nothing, MemberFields]) -> ShownMember:
    """Only an owner makes and unmakes owners, the last owner stays, and nobody raises themselves.
    The sessions of the member end."""
    ask.principal.check_organization_wide()

    def change(connection: sa.Connection) -> Member:
        member = find(ask, connection)
        ask.check_match(member.version)
        return ask.services.members.change_role(
            connection,
            ask.organization_id,
            member,
            Role(ask.body.role.value),
            by=ask.actor,
            by_role=find_role(ask),
        )

    return show_member(await ask.write(change))


@OPERATIONS.delete("/api/members/{person_id}", access=WRITE, status=204, summary="Remove a member")
async def remove_member(ask: Ask[Nothing, Nothing]) -> None:
    """Their sessions end, and invitations that they handed out are revoked. The last owner
    stays."""
    ask.principal.check_organization_wide()

    def remove(connection: sa.Connection) -> None:
        member = find(ask, connection)
        ask.check_match(member.version)
        ask.services.members.remove(
            connection, ask.organization_id, member, by=ask.actor, by_role=find_role(ask)
        )

    await ask.write(remove)


def find(ask: Ask[Any, Any], connection: sa.Connection) -> Member:
    """The member of the path. Raises `PersonNotFoundError`."""
    return ask.services.members.get(connection, ask.organization_id, ask.path["person_id"])


def find_role(ask: Ask[Any, Any]) -> Role:
    """As what somebody acts in the organization: a key manages, and is no owner."""
    return ask.principal.roles.get(ask.organization_id, Role.ADMIN)


def show_member(member: Member) -> ShownMember:
    """A member as the API writes them."""
    return ShownMember(
        id=member.person_id,
        email=member.email,
        name=member.name,
        role=member.role.value,
        created_at=show_time(member.created_at),
        disabled_at=show_time_if_any(member.disabled_at),
        version=member.version,
    )
