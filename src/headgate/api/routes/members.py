"""The members of an organization and their roles."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.accounts.model import Member, Role
from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.members import (
    MemberPage,
    MemberResponse,
    MemberUpdate,
    to_member_response,
)
from headgate.api.schemas.pages import PageQuery

OPERATIONS = Operations("Members", "The people of an organization and their roles.")
READ = organization("people:read")
WRITE = organization("people:write")


@OPERATIONS.get("/api/members", access=READ, summary="List members")
async def list_members(context: RequestContext[PageQuery, Empty]) -> MemberPage:
    """Return all people of the organization, oldest membership first. People with the retired role
    `member`, which grants no access, are included."""
    query = context.query
    members, total = await context.read(
        lambda connection: context.services.members.list(
            connection, context.organization_id, limit=query.limit, offset=query.offset
        )
    )
    return MemberPage([to_member_response(each) for each in members], **query.position(total))


@OPERATIONS.get("/api/members/{person_id}", access=READ, summary="Read a member")
async def get_member(context: RequestContext[Empty, Empty]) -> MemberResponse:
    """Return one member of the organization. The answer is 404 for a person who is not a member."""
    return to_member_response(await context.read(lambda connection: find(context, connection)))


@OPERATIONS.patch(
    "/api/members/{person_id}",
    access=WRITE,
    summary="Change a member's role",
    example={"role": "admin"},
)
async def update_member(context: RequestContext[Empty, MemberUpdate]) -> MemberResponse:
    """Change the role of a member and end their sessions. Only an owner can appoint or demote
    owners, the last owner cannot be demoted, and nobody can raise their own role."""
    context.principal.check_organization_wide()

    def change(connection: sa.Connection) -> Member:
        member = context.check_version(find(context, connection))
        return context.services.members.change_role(
            connection,
            context.organization_id,
            member,
            Role(context.body.role.value),
            by=context.actor,
            by_role=find_role(context),
        )

    return to_member_response(await context.write(change))


@OPERATIONS.delete("/api/members/{person_id}", access=WRITE, status=204, summary="Remove a member")
async def remove_member(context: RequestContext[Empty, Empty]) -> None:
    """Remove a person from the organization, end their sessions, revoke the invitations that they
    created, and delete their tokens for MCP servers. The last owner cannot be removed."""
    context.principal.check_organization_wide()

    def remove(connection: sa.Connection) -> None:
        member = context.check_version(find(context, connection))
        context.services.members.remove(
            connection,
            context.organization_id,
            member,
            by=context.actor,
            by_role=find_role(context),
        )
        servers = context.services.mcp_servers
        servers.forget_person(connection, context.organization_id, member.person_id)

    await context.write(remove)


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> Member:
    """Return the member of the path. Raise `PersonNotFoundError`."""
    return context.services.members.get(
        connection, context.organization_id, context.path["person_id"]
    )


def find_role(context: RequestContext[Any, Any]) -> Role:
    """Return the role of the principal in the organization. A key manages, but is no owner."""
    return context.principal.roles.get(context.organization_id, Role.ADMIN)
