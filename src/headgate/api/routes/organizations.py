"""Organizations: those of the signed-in person, the one of the header, and all of them for the
operator."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from headgate.accounts.model import Organization, Role
from headgate.api.access import PERSON, organization, platform
from headgate.api.operation import Operations, RequestContext
from headgate.api.principal import PrincipalKind
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.organizations import (
    CreatedOrganizationResponse,
    OrganizationCreate,
    OrganizationPage,
    OrganizationResponse,
    OrganizationUpdate,
    OwnOrganizationPage,
    to_organization_response,
    to_own_organization_response,
)
from headgate.api.schemas.pages import PageQuery

OPERATIONS = Operations(
    "Organizations",
    "Tenants of the server. Every project, key, credential and member belongs to one organization.",
)


@OPERATIONS.get("/api/organizations", access=PERSON, summary="List my organizations")
async def list_own_organizations(context: RequestContext[PageQuery, Empty]) -> OwnOrganizationPage:
    """Return the organizations of the signed-in person with their role in each. Organizations in
    which they have the retired role `member`, which grants no access, are included."""
    query, people = context.query, context.services.people
    found = await context.read(
        lambda connection: people.list_memberships(connection, context.principal.id)
    )
    page = found[query.offset : query.offset + query.limit]
    responses = [to_own_organization_response(each) for each in page]
    return OwnOrganizationPage(responses, **query.position(len(found)))


@OPERATIONS.post(
    "/api/organizations",
    access=platform("platform:write"),
    status=201,
    summary="Create an organization",
    example={"name": "Research", "owner_email": "ada@example.com"},
)
async def create_organization(
    context: RequestContext[Empty, OrganizationCreate],
) -> CreatedOrganizationResponse:
    """Create an organization and decide who owns it; only for the operator of the server. With
    `owner_email`, that person is invited as owner, and the operator does not become a member.
    Without it, an operator who is signed in becomes the owner. A management key that names no
    owner gets an invitation token for an owner who gives an e-mail address when accepting it."""

    def create(connection: sa.Connection) -> CreatedOrganizationResponse:
        services, body = context.services, context.body
        made = services.accounts.create_organization(connection, body.name, by=context.actor)
        if body.owner_email is None and context.principal.kind is PrincipalKind.PERSON:
            owner = services.people.get(connection, context.principal.id)
            services.people.join(connection, owner, made.id, role=Role.OWNER, by=context.actor)
        token = None
        if body.owner_email is not None:
            issued = services.invitations.create(
                connection,
                made.id,
                body.owner_email,
                role=Role.OWNER,
                by=context.actor,
                by_role=Role.OWNER,
                param="owner_email",
            )
            token = issued.token
        elif context.principal.kind is not PrincipalKind.PERSON:
            token = services.invitations.create_for_owner(
                connection, made.id, by=context.actor
            ).token
        responses = msgspec.structs.asdict(to_organization_response(made))
        return CreatedOrganizationResponse(**responses, owner_invitation_token=token)

    return await context.create(create)


@OPERATIONS.get(
    "/api/organization",
    access=organization("organization:read"),
    summary="Read the organization",
)
async def get_organization(context: RequestContext[Empty, Empty]) -> OrganizationResponse:
    """Return the organization that the header `X-Organization-ID` names."""
    return to_organization_response(
        await context.read(
            lambda connection: context.services.accounts.get_organization(
                connection, context.organization_id
            )
        )
    )


@OPERATIONS.patch(
    "/api/organization",
    access=organization("organization:write"),
    summary="Change the organization",
    errors=(400, 404),
    example={"name": "Research and development", "reporting_zone": "Europe/Berlin"},
)
async def update_organization(
    context: RequestContext[Empty, OrganizationUpdate],
) -> OrganizationResponse:
    """Change the name or the reporting zone of the organization that the header
    `X-Organization-ID` names. Its id and everything that belongs to it stay the same."""
    context.principal.check_organization_wide()
    given = msgspec.structs.asdict(context.body)
    changes = {name: value for name, value in given.items() if value is not UNSET}

    def change(connection: sa.Connection) -> Organization:
        accounts = context.services.accounts
        found = context.check_version(
            accounts.get_organization(connection, context.organization_id)
        )
        return accounts.change_organization(connection, found, changes, by=context.actor)

    return to_organization_response(await context.write(change))


@OPERATIONS.get(
    "/api/platform/organizations",
    access=platform("platform:read"),
    summary="List all organizations",
)
async def list_organizations(context: RequestContext[PageQuery, Empty]) -> OrganizationPage:
    """Return every organization on this server, oldest first; only for the operator of the
    server."""
    query, accounts = context.query, context.services.accounts
    found = await context.read(accounts.list_organizations)
    page = found[query.offset : query.offset + query.limit]
    responses = [to_organization_response(each) for each in page]
    return OrganizationPage(responses, **query.position(len(found)))


@OPERATIONS.post(
    "/api/platform/organizations/{organization_id}/suspend",
    access=platform("platform:write"),
    summary="Suspend an organization",
)
async def suspend_organization(context: RequestContext[Empty, Empty]) -> OrganizationResponse:
    """Reject all requests by the organization's people and API keys from now on. Nothing is
    deleted."""

    def suspend(connection: sa.Connection) -> Organization:
        accounts = context.services.accounts
        found = accounts.get_organization(connection, context.path["organization_id"])
        return accounts.suspend_organization(connection, found, by=context.actor)

    return to_organization_response(await context.write(suspend))


@OPERATIONS.post(
    "/api/platform/organizations/{organization_id}/resume",
    access=platform("platform:write"),
    summary="Resume an organization",
)
async def resume_organization(context: RequestContext[Empty, Empty]) -> OrganizationResponse:
    """Lift the suspension. People and API keys have the same access as before."""

    def resume(connection: sa.Connection) -> Organization:
        accounts = context.services.accounts
        found = accounts.get_organization(connection, context.path["organization_id"])
        return accounts.resume_organization(connection, found, by=context.actor)

    return to_organization_response(await context.write(resume))
