"""Invitations to an organization: managers create them, the invited person accepts."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import (
    Invitation,
    Login,
    Person,
    PersonRequest,
    Role,
    SignInFailedError,
    check_email,
    check_name,
    check_password,
)
from headgate.api.access import ANYONE, organization
from headgate.api.authenticator import check_csrf_token
from headgate.api.errors import InvalidFieldError
from headgate.api.gate import read_tokens
from headgate.api.operation import Operations, RequestContext
from headgate.api.quotas import check_plan
from headgate.api.routes.members import find_role
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.invitations import (
    InvitationAccept,
    InvitationCreate,
    InvitationPage,
    IssuedInvitationResponse,
    to_invitation_response,
)
from headgate.api.schemas.pages import PageQuery
from headgate.api.schemas.session import CurrentSessionResponse
from headgate.api.sign_in import (
    VerifiedPassword,
    build_actor,
    complete_sign_in,
    open_session,
    verify_password,
)
from headgate.kit.errors import HeadgateError, Kind

OPERATIONS = Operations("Invitations", "Links with which people join an organization.")
READ = organization("people:read")
WRITE = organization("people:write")
WRONG_ACCOUNT = "This invitation is for another person. Sign out first."


class WrongAccountError(HeadgateError):
    """The signed-in person has another e-mail address than the invitation.

    Sign out, then open the invitation again.
    """

    kind = Kind.CONFLICT
    code = "signed_in_as_somebody_else"


@OPERATIONS.post(
    "/api/invitations",
    access=WRITE,
    status=201,
    summary="Invite a person",
    example={"email": "ada@example.com", "role": "admin"},
)
async def create_invitation(
    context: RequestContext[Empty, InvitationCreate],
) -> IssuedInvitationResponse:
    """Create an invitation that can be accepted once, by the person with this e-mail address. The
    answer has the token, and a link if the server knows its public URL; both are shown only
    here. Send the link to the person yourself. Only an owner can invite owners."""
    context.principal.check_organization_wide()

    def create(connection: sa.Connection) -> IssuedInvitationResponse:
        check_plan(context, connection, "seats")
        issued = context.services.invitations.create(
            connection,
            context.organization_id,
            context.body.email,
            role=Role(context.body.role.value),
            by=context.actor,
            by_role=find_role(context),
        )
        url = context.services.authentication.public_url
        return IssuedInvitationResponse(
            **msgspec.structs.asdict(to_invitation_response(issued.invitation)),
            token=issued.token,
            # Behind the #: browsers send that part to no server, so no log has it.
            link=None if url is None else f"{url}/invitation#{issued.token}",
        )

    return await context.create(create)


@OPERATIONS.get("/api/invitations", access=READ, summary="List open invitations")
async def list_invitations(context: RequestContext[PageQuery, Empty]) -> InvitationPage:
    """Return the invitations that are not accepted, revoked or expired, oldest first."""
    query = context.query
    found, total = await context.read(
        lambda connection: context.services.invitations.list(
            connection, context.organization_id, limit=query.limit, offset=query.offset
        )
    )
    responses = [to_invitation_response(each) for each in found]
    return InvitationPage(responses, **query.position(total))


@OPERATIONS.delete(
    "/api/invitations/{invitation_id}",
    access=WRITE,
    status=204,
    summary="Revoke an invitation",
    is_versioned=False,
)
async def revoke_invitation(context: RequestContext[Empty, Empty]) -> None:
    """Make the token and the link of the invitation invalid at once."""
    context.principal.check_organization_wide()
    await context.write(
        lambda connection: context.services.invitations.revoke(
            connection, context.organization_id, context.path["invitation_id"], by=context.actor
        )
    )


@OPERATIONS.post(
    "/api/invitations/accept",
    access=ANYONE,
    status=201,
    summary="Accept an invitation",
    errors=(401, 403, 404),
    example={
        "token": "hg_invite_...",
        "name": "Ada Lovelace",
        "password": "a long sentence of your own",
    },
)
async def accept_invitation(
    context: RequestContext[Empty, InvitationAccept],
) -> CurrentSessionResponse:
    """Join an organization with the token of an invitation, and sign in. A new person gives a name
    and a password, which creates an account. A person who has an account already must be signed
    in, or give their password."""
    services, body = context.services, context.body
    invitation = await context.read(
        lambda connection: services.invitations.find(connection, body.token)
    )
    email = read_email(invitation, body.email)
    before = await find_signed_in(context)
    if before is not None and before.person.email != email:
        raise WrongAccountError(WRONG_ACCOUNT)
    known = await context.read(lambda connection: services.people.find(connection, email))
    if known is None:
        request = await build_request(context, email, is_verified=invitation.is_operator)
        return await _accept(context, invitation, request, before=before)
    if before is not None:
        return await _accept(context, invitation, known, before=before)
    if body.password is None:
        raise SignInFailedError("You have an account here: sign in first, or give its password.")
    verified = await verify_password(context, email, body.password)
    return await _accept(context, invitation, verified, before=None)


async def _accept(
    context: RequestContext[Empty, InvitationAccept],
    invitation: Invitation,
    invitee: Person | PersonRequest | VerifiedPassword,
    *,
    before: Login | None,
) -> CurrentSessionResponse:
    services = context.services

    def accept(connection: sa.Connection) -> Login:
        # Check again: it may have been revoked or accepted while the password was verified.
        services.invitations.find(connection, context.body.token)
        person = invitee
        if isinstance(person, VerifiedPassword):
            person = services.people.check_password_hash_unchanged(
                connection, person.person, person.stored
            )
        invitation_actor = build_actor(context, invitation.id, "invitation")
        person = services.invitations.accept(connection, invitation, person, by=invitation_actor)
        return open_session(context, connection, person, method="invitation", before=before)

    return complete_sign_in(context, await context.write(accept))


async def build_request(
    context: RequestContext[Empty, InvitationAccept], email: str, *, is_verified: bool
) -> PersonRequest:
    """Return the new person of the body. Raise `InvalidFieldError` and `InvalidPasswordError`."""
    body = context.body
    for name, value in (("name", body.name), ("password", body.password)):
        if value is None:
            message = "A new person gives a name and a password."
            raise InvalidFieldError(message, ("body", name), "missing")
    password = check_password(body.password or "", email=email)
    context.services.authentication.login_rate_limiter.take(context.actor.address, email)
    return PersonRequest(
        email=email,
        name=check_name(body.name or ""),
        password_hash=await context.services.authentication.hasher.hash(password),
        is_verified=is_verified,
    )


async def find_signed_in(context: RequestContext[Any, Any]) -> Login | None:
    """Return the login of the session cookie, if there is one. Raise `InvalidCsrfTokenError`."""
    if read_tokens(context.request):
        return None
    login = await context.services.authentication.authenticator.find_session(context.request)
    if login is not None:
        check_csrf_token(context.request, login.token)
    return login


def read_email(invitation: Invitation, given: str | None) -> str:
    """Return the e-mail address that accepts the invitation. Raise `InvalidFieldError` and
    `InvalidEmailError`."""
    if invitation.email is None:
        if given is None:
            message = "Give the e-mail address that you will sign in with."
            raise InvalidFieldError(message, ("body", "email"), "missing")
        return check_email(given)
    if given is not None and check_email(given) != invitation.email:
        raise InvalidFieldError("This invitation is for another address.", ("body", "email"))
    return invitation.email
