"""Signing in and out, one's own sessions, and one's own password."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from headgate.accounts.model import Login, Session, SignInFailedError, check_password
from headgate.accounts.service import NOT_SIGNED_IN
from headgate.api.access import ANYONE, PERSON
from headgate.api.errors import WrongPasswordError
from headgate.api.operation import Ask, Operations
from headgate.api.pages import PageQuery
from headgate.api.shapes import Nothing, show_time
from headgate.api.sign_in import (
    Email,
    Password,
    SignedIn,
    build_actor,
    complete_sign_in,
    open_session,
    show_login,
    start_session,
    verify_password,
)
from headgate.kit.errors import HeadgateError, Kind

if TYPE_CHECKING:
    from headgate.accounts.service.oidc import OidcLogin

OPERATIONS = Operations("Sessions", "Signing in, and who is signed in where.")
FLOW_SECONDS = 600

Returned = Annotated[str, Meta(max_length=4096)]


class OidcNotConfiguredError(HeadgateError):
    """No issuer is configured."""

    kind = Kind.MISSING
    code = "not_found"


class SignIn(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An e-mail address and the password that belongs to it."""

    email: Email
    password: Password

    def __repr__(self) -> str:
        return "SignIn()"


class PasswordChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The present password, and the next one: 12 characters or more, of any kind."""

    old_password: Password
    new_password: Password

    def __repr__(self) -> str:
        return "PasswordChange()"


class ShownSession(msgspec.Struct):
    """A login. `current`: the one that asks."""

    id: str
    current: bool
    created_at: datetime.datetime
    last_seen_at: datetime.datetime
    expires_at: datetime.datetime
    address: str
    user_agent: str


class SessionPage(msgspec.Struct):
    """The one that was used last first."""

    sessions: list[ShownSession]
    total: int
    limit: int
    offset: int


class OidcReturn(msgspec.Struct, frozen=True):
    """What an issuer sends a browser back with. Issuers add fields of their own: let them."""

    code: Returned | None = None
    state: Returned = ""
    iss: Returned | None = None
    error: Returned | None = None


@OPERATIONS.post(
    "/api/session",
    access=ANYONE,
    status=201,
    summary="Sign in",
    errors=(401, 403),
    example={"email": "ada@example.com", "password": "a long sentence of your own"},
)
async def sign_in(ask: Ask[Nothing, SignIn]) -> SignedIn:
    """Sets the cookie of a new session. Which of the two is wrong is not told."""
    verified = await verify_password(ask, ask.body.email, ask.body.password)
    before = await ask.services.authentication.authenticator.find_session(ask.request)
    return complete_sign_in(
        ask,
        await ask.write(lambda connection: start_session(ask, connection, verified, before=before)),
    )


@OPERATIONS.get("/api/session", access=PERSON, summary="Who is signed in")
async def get_session(ask: Ask[Nothing, Nothing]) -> SignedIn:
    """With the token that changes need, for a page that was loaded anew."""
    return show_login(ask, await ask.read(lambda connection: find_login(ask, connection)))


@OPERATIONS.delete(
    "/api/session", access=PERSON, status=204, summary="Sign out", is_versioned=False
)
async def sign_out(ask: Ask[Nothing, Nothing]) -> None:
    """The session is over everywhere at once. A token of another issuer is ended there."""
    principal = ask.principal
    ask.reply.cookies.append(ask.services.authentication.cookies.clear_session())
    if principal.session_id is not None:
        session_id = principal.session_id
        await ask.write(
            lambda connection: ask.services.sessions.end(
                connection, principal.id, session_id, by=ask.actor
            )
        )


@OPERATIONS.get("/api/sessions", access=PERSON, summary="List my sessions")
async def list_sessions(ask: Ask[PageQuery, Nothing]) -> SessionPage:
    """From where you are signed in."""
    query, sessions = ask.query, ask.services.sessions
    found = await ask.read(lambda connection: sessions.list(connection, ask.principal.id))
    page = found[query.offset : query.offset + query.limit]
    shown = [show_session(ask, session) for session in page]
    return SessionPage(shown, len(found), query.limit, query.offset)


@OPERATIONS.delete(
    "/api/sessions/{session_id}",
    access=PERSON,
    status=204,
    summary="End one of my sessions",
    is_versioned=False,
)
async def end_session(ask: Ask[Nothing, Nothing]) -> None:
    """At once, wherever it is used."""
    session_id = ask.path["session_id"]
    if session_id == ask.principal.session_id:
        ask.reply.cookies.append(ask.services.authentication.cookies.clear_session())
    await ask.write(
        lambda connection: ask.services.sessions.end(
            connection, ask.principal.id, session_id, by=ask.actor
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
async def change_password(ask: Ask[Nothing, PasswordChange]) -> SignedIn:
    """All other sessions end, and this one goes on under a new token."""
    email = ask.principal.name
    new = check_password(ask.body.new_password, email=email, param="new_password")
    try:
        verified = await verify_password(ask, email, ask.body.old_password)
    except SignInFailedError as error:
        message = "This is not your present password."
        raise WrongPasswordError(
            message, ("body", "old_password"), WrongPasswordError.code
        ) from error
    hashed = await ask.services.authentication.hasher.hash(new)

    def change(connection: sa.Connection) -> Login:
        people = ask.services.people
        person = people.check_password_hash_unchanged(connection, verified.person, verified.stored)
        people.set_password(connection, person, hashed, by=ask.actor)
        if ask.principal.session_id is None:
            return find_login(ask, connection)
        return open_session(ask, connection, person, method="password_change", before=None)

    login = await ask.write(change)
    return show_login(ask, login) if login.session is None else complete_sign_in(ask, login)


@OPERATIONS.get(
    "/api/session/oidc/start",
    access=ANYONE,
    status=302,
    summary="Sign in at the configured issuer",
    errors=(404, 502),
)
async def start_oidc(ask: Ask[Nothing, Nothing]) -> None:
    """Leads the browser to the issuer; 404 where none is configured."""
    oidc, cookies = find_oidc(ask.services.authentication.oidc), ask.services.authentication.cookies
    flow = oidc.start_flow()
    ask.reply.headers["location"] = await oidc.build_authorization_url(flow)
    ask.reply.cookies.append(cookies.write_flow(flow, seconds=FLOW_SECONDS))


@OPERATIONS.get(
    "/api/session/oidc/callback",
    access=ANYONE,
    status=302,
    summary="Come back from the configured issuer",
    errors=(401, 404, 502),
)
async def finish_oidc(ask: Ask[OidcReturn, Nothing]) -> None:
    """Sets the cookie of a new session and leads to the console. Only for who is known, invited,
    or of a trusted domain."""
    query, authentication = ask.query, ask.services.authentication
    oidc, flow = find_oidc(authentication.oidc), authentication.cookies.read_flow(ask.request)
    oidc.check_state(flow, query.state, query.iss)
    if query.error is not None or query.code is None:
        raise SignInFailedError("The issuer did not sign you in. Begin again.")
    external = await oidc.exchange_code(flow, query.code)
    before = await authentication.authenticator.find_session(ask.request)

    def accept_login(connection: sa.Connection) -> Login:
        issuer = build_actor(ask, external.subject, external.issuer)
        known = authentication.account_linking.accept_login(connection, external, by=issuer)
        return open_session(ask, connection, known.person, method="oidc", before=before)

    complete_sign_in(ask, await ask.write(accept_login))
    ask.reply.cookies.append(authentication.cookies.clear_flow())
    ask.reply.headers["location"] = f"{authentication.public_url or ''}/"


def find_oidc(oidc: OidcLogin | None) -> OidcLogin:
    """The configured issuer. Raises `OidcNotConfiguredError`."""
    if oidc is None:
        raise OidcNotConfiguredError("No issuer is configured: set HEADGATE_OIDC_ISSUER.")
    return oidc


def find_login(ask: Ask[Nothing, Any], connection: sa.Connection) -> Login:
    """The login of who asks. Raises `SignInFailedError` where it ended a moment ago."""
    services, principal = ask.services, ask.principal
    if principal.session_id is None:
        return Login(
            person=services.people.get(connection, principal.id),
            memberships=services.people.list_memberships(connection, principal.id),
        )
    login = services.sessions.find(connection, principal.token.decode())
    if login is None:
        raise SignInFailedError(NOT_SIGNED_IN)
    return login


def show_session(ask: Ask[PageQuery, Nothing], session: Session) -> ShownSession:
    """A session as the API writes it."""
    return ShownSession(
        id=session.id,
        current=session.id == ask.principal.session_id,
        created_at=show_time(session.created_at),
        last_seen_at=show_time(session.last_seen_at),
        expires_at=show_time(ask.services.sessions.ends_at(session)),
        address=session.address,
        user_agent=session.user_agent,
    )
