"""Objects for the access matrix, in the caller's organization and in another, and valid bodies."""

from __future__ import annotations

import itertools
from typing import Any

import sqlalchemy as sa

from headgate.accounts.model import Person, Role
from headgate.audit.model import SYSTEM, Actor, ActorKind
from headgate.oauth.model.client import OAuthClient
from headgate.oauth.model.request import AuthorizationRequest
from headgate.oauth.service import ApplicationFilter
from tests.fakes.api import Api, Tenant
from tests.fakes.people import PASSWORD, add_person

THIRD = "Third"
OWN_MEMBER = "own-member@example.com"
_count = itertools.count()


def make_organization(api: Api) -> str:
    """Return a third organization in which no caller has a role, created if missing."""
    accounts = api.application.accounts
    with api.application.database.transaction() as connection:
        for known in accounts.list_organizations(connection):
            if known.name == THIRD:
                return known.id
        return accounts.create_organization(connection, THIRD, by=SYSTEM).id


def suspend_organization(api: Api) -> None:
    organization_id, accounts = make_organization(api), api.application.accounts
    with api.application.database.transaction() as connection:
        organization = accounts.get_organization(connection, organization_id)
        accounts.suspend_organization(connection, organization, by=SYSTEM)


def find_own_member(api: Api) -> str:
    """Return a member whose role any manager may change."""
    return add_person(api, OWN_MEMBER, Role.MEMBER).id


def disable_own_member(api: Api) -> None:
    person = add_person(api, OWN_MEMBER, Role.MEMBER)
    with api.application.database.transaction() as connection:
        api.application.people.disable(connection, person, by=SYSTEM)


def find_foreign_member(api: Api) -> str:
    other = api.other.organization_id
    return add_person(api, "foreign@example.com", Role.ADMIN, organization_id=other).id


def open_own_session(api: Api) -> str:
    return open_session(api, add_person(api, "owner@example.com", Role.OWNER))


def open_foreign_session(api: Api) -> str:
    return open_session(api, add_person(api, "stranger@example.com"))


def open_session(api: Api, person: Person) -> str:
    application = api.application
    with application.database.transaction() as connection:
        login = application.sessions.open(connection, person, method="test", by=SYSTEM)
    assert login.session is not None
    return login.session.id


def invite(api: Api, organization_id: str, connection: sa.Connection) -> tuple[str, str]:
    """Return id and token of an invitation for a new address."""
    issued = api.application.invitations.create(
        connection,
        organization_id,
        f"guest{next(_count)}@example.com",
        role=Role.ADMIN,
        by=SYSTEM,
        by_role=Role.OWNER,
    )
    return issued.invitation.id, issued.token


def invite_own(api: Api) -> str:
    with api.application.database.transaction() as connection:
        return invite(api, api.own.organization_id, connection)[0]


def invite_foreign(api: Api) -> str:
    with api.application.database.transaction() as connection:
        return invite(api, api.other.organization_id, connection)[0]


def write_acceptance(api: Api) -> dict[str, Any]:
    """Write the body of a new person with an unused token."""
    with api.application.database.transaction() as connection:
        _, token = invite(api, api.own.organization_id, connection)
    return {"token": token, "name": "Guest", "password": PASSWORD}


def write_sign_in(api: Api) -> dict[str, Any]:
    person = add_person(api, "ada@example.com")
    return {"email": person.email, "password": PASSWORD}


def connect_application(api: Api, tenant: Tenant) -> str:
    """Return an application that a manager of the tenant connected."""
    person = add_person(
        api, "connector@example.com", Role.ADMIN, organization_id=tenant.organization_id
    )
    request = AuthorizationRequest(
        redirect_uri="https://agent.example/callback",
        challenge="x" * 43,
        scopes=("mcp:read",),
        resource="http://gate.example/mcp",
    )
    client = OAuthClient(id="agent", name="Agent", redirect_uris=(request.redirect_uri,))
    service = api.application.connected_applications
    selected = ApplicationFilter(organization_id=tenant.organization_id, person_id=person.id)
    by = Actor(ActorKind.PERSON, person.id)
    with api.application.database.transaction() as connection:
        service.connect(connection, person, client, request, project_id=tenant.project_id, by=by)
        page, _ = service.list_page(connection, selected, limit=1)
    return page[0].application.id
