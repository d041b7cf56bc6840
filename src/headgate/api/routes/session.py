"""Sign-in and sign-out, sessions, and the password of the signed-in person."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import sqlalchemy as sa

from headgate.accounts.model import Login, Session, SignInFailedError, check_password
from headgate.accounts.service import NOT_SIGNED_IN
from headgate.api.access import ANYONE, PERSON
from headgate.api.errors import WrongPasswordError
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty, to_datetime
from headgate.api.schemas.pages import PageQuery
from headgate.api.schemas.session import (
    CurrentSessionResponse,
    OidcReturn,
    PasswordChange,
    SessionPage,
    SessionResponse,
    SignInRequest,
)
from headgate.api.sign_in import (
    build_actor,
    complete_sign_in,
    open_session,
    start_session,
    to_current_session_response,
    verify_password,
)
from headgate.kit.errors import HeadgateError, Kind

if TYPE_CHECKING:
    from headgate.accounts.service.oidc import OidcLogin

OPERATIONS = Operations(
    "Sessions", "Sign in and out, and manage the sessions and the password of the signed-in person."
)
FLOW_SECONDS = 600


class OidcNotConfiguredError(HeadgateError):
    """This installation has no identity provider (OIDC issuer).

    An operator sets `HEADGATE_OIDC_ISSUER`; until then sign in with a password.
    """

    kind = Kind.MISSING
    code = "not_found"


@OPERATIONS.post(
    "/api/session",
    access=ANYONE,
    status=201,
    summary="Sign in with a password",
    errors=(401, 403),
    example={"email": "ada@example.com", "password": "a long sentence of your own"},
)
async def sign_in(context: RequestContext[Empty, SignInRequest]) -> CurrentSessionResponse:
    """Verify an e-mail address and a password, and start a session. The response sets the session
    cookie and returns the CSRF token that later changes need. The error does not tell whether
    the address or the password was wrong."""
    verified = await verify_password(context, context.body.email, context.body.password)
    before = await context.services.authentication.authenticator.find_session(context.request)
    return complete_sign_in(
        context,
        await context.write(
            lambda connection: start_session(context, connection, verified, before=before)
        ),
    )


@OPERATIONS.get("/api/session", access=PERSON, summary="Read the current session")
async def get_session(context: RequestContext[Empty, Empty]) -> CurrentSessionResponse:
    """Return the signed-in person, their organizations, and the CSRF token to send as
    `X-CSRF-Token` with every change. A web page calls this after it was reloaded."""
    return to_current_session_response(
        context, await context.read(lambda connection: find_login(context, connection))
    )


@OPERATIONS.delete(
    "/api/session", access=PERSON, status=204, summary="Sign out", is_versioned=False
)
async def sign_out(context: RequestContext[Empty, Empty]) -> None:
    """End the current session and delete its cookie. A bearer token of an external issuer stays
    valid; end it at that issuer."""
    principal = context.principal
    context.response_head.cookies.append(context.services.authentication.cookies.clear_session())
    if principal.session_id is not None:
        session_id = principal.session_id
        await context.write(
            lambda connection: context.services.sessions.end(
                connection, principal.id, session_id, by=context.actor
            )
        )


@OPERATIONS.get("/api/sessions", access=PERSON, summary="List my sessions")
async def list_sessions(context: RequestContext[PageQuery, Empty]) -> SessionPage:
    """Return the sessions of the signed-in person, most recently used first, with the network
    address and the user agent of each."""
    query, sessions = context.query, context.services.sessions
    found = await context.read(lambda connection: sessions.list(connection, context.principal.id))
    page = found[query.offset : query.offset + query.limit]
    responses = [to_session_response(context, session) for session in page]
    return SessionPage(responses, **query.position(len(found)))


@OPERATIONS.delete(
    "/api/sessions/{session_id}",
    access=PERSON,
    status=204,
    summary="End one of my sessions",
    is_versioned=False,
)
async def end_session(context: RequestContext[Empty, Empty]) -> None:
    """End a session of the signed-in person at once. Later requests with its cookie are answered
    with 401."""
    session_id = context.path["session_id"]
    if session_id == context.principal.session_id:
        context.response_head.cookies.append(
            context.services.authentication.cookies.clear_session()
        )
    await context.write(
        lambda connection: context.services.sessions.end(
            connection, context.principal.id, session_id, by=context.actor
        )
    )


@OPERATIONS.post(
    "/api/session/password",
    access=PERSON,
    summary="Change my password",
    errors=(409,),
    example={
        "old_password": "a long sentence of your own",
        "new_password": "another sentence, just as long",
    },
)
async def change_password(context: RequestContext[Empty, PasswordChange]) -> CurrentSessionResponse:
    """Replace the password of the signed-in person. All their other sessions end; the current
    session continues with a new cookie and a new CSRF token. A wrong current password is
    answered with 422."""
    email = context.principal.name
    new = check_password(context.body.new_password, email=email, param="new_password")
    try:
        verified = await verify_password(context, email, context.body.old_password)
    except SignInFailedError as error:
        message = "The current password is wrong."
        raise WrongPasswordError(
            message, ("body", "old_password"), WrongPasswordError.code
        ) from error
    hashed = await context.services.authentication.hasher.hash(new)

    def change(connection: sa.Connection) -> Login:
        people = context.services.people
        person = people.check_password_hash_unchanged(connection, verified.person, verified.stored)
        people.set_password(connection, person, hashed, by=context.actor)
        if context.principal.session_id is None:
            return find_login(context, connection)
        return open_session(context, connection, person, method="password_change", before=None)

    login = await context.write(change)
    return (
        to_current_session_response(context, login)
        if login.session is None
        else complete_sign_in(context, login)
    )


@OPERATIONS.get(
    "/api/session/oidc/start",
    access=ANYONE,
    status=302,
    summary="Start single sign-on",
    errors=(404, 502),
)
async def start_oidc(context: RequestContext[Empty, Empty]) -> None:
    """Redirect the browser to the OpenID Connect issuer of this server. The answer is 404 if no
    issuer is configured."""
    oidc, cookies = (
        find_oidc(context.services.authentication.oidc),
        context.services.authentication.cookies,
    )
    flow = oidc.start_flow()
    context.response_head.headers["location"] = await oidc.build_authorization_url(flow)
    context.response_head.cookies.append(cookies.write_flow(flow, seconds=FLOW_SECONDS))


@OPERATIONS.get(
    "/api/session/oidc/callback",
    access=ANYONE,
    status=302,
    summary="Finish single sign-on",
    errors=(401, 404, 502),
)
async def finish_oidc(context: RequestContext[OidcReturn, Empty]) -> None:
    """Receive the browser back from the OpenID Connect issuer, start a session, set its cookie, and
    redirect to the console, or to the page that connects an application. Only people who signed
    in with this issuer before, whose verified e-mail address has an account or an open invitation,
    or whose e-mail domain is trusted can sign in."""
    query, authentication = context.query, context.services.authentication
    oidc, flow = find_oidc(authentication.oidc), authentication.cookies.read_flow(context.request)
    oidc.check_state(flow, query.state, query.iss)
    if query.error is not None or query.code is None:
        raise SignInFailedError("The issuer did not sign you in. Start the sign-in again.")
    external = await oidc.exchange_code(flow, query.code)
    before = await authentication.authenticator.find_session(context.request)

    def accept_login(connection: sa.Connection) -> Login:
        issuer = build_actor(context, external.subject, external.issuer)
        known = authentication.account_linking.accept_login(connection, external, by=issuer)
        return open_session(context, connection, known.person, method="oidc", before=before)

    complete_sign_in(context, await context.write(accept_login))
    context.response_head.cookies.append(authentication.cookies.clear_flow())
    path = authentication.cookies.read_return(context.request) or "/"
    if path != "/":
        context.response_head.cookies.append(authentication.cookies.clear_return())
    context.response_head.headers["location"] = f"{authentication.public_url or ''}{path}"


def find_oidc(oidc: OidcLogin | None) -> OidcLogin:
    """Return the configured issuer. Raise `OidcNotConfiguredError`."""
    if oidc is None:
        raise OidcNotConfiguredError("No issuer is configured: set HEADGATE_OIDC_ISSUER.")
    return oidc


def find_login(context: RequestContext[Empty, Any], connection: sa.Connection) -> Login:
    """Return the login of the principal. Raise `SignInFailedError` if it ended meanwhile."""
    services, principal = context.services, context.principal
    if principal.session_id is None:
        return Login(
            person=services.people.get(connection, principal.id),
            memberships=services.people.list_memberships(connection, principal.id),
        )
    login = services.sessions.find(connection, principal.token.decode())
    if login is None:
        raise SignInFailedError(NOT_SIGNED_IN)
    return login


def to_session_response(
    context: RequestContext[PageQuery, Empty], session: Session
) -> SessionResponse:
    return SessionResponse(
        id=session.id,
        current=session.id == context.principal.session_id,
        created_at=to_datetime(session.created_at),
        last_seen_at=to_datetime(session.last_seen_at),
        expires_at=to_datetime(context.services.sessions.ends_at(session)),
        address=session.address,
        user_agent=session.user_agent,
    )
