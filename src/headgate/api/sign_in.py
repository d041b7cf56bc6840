"""The steps of a sign-in that several operations share."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import InvalidEmailError, Login, Person, SignInFailedError, check_email
from headgate.accounts.service import NOT_SIGNED_IN, derive_csrf_token
from headgate.api.access_denials import SignInAttempt
from headgate.api.operation import RequestContext
from headgate.api.schemas.fields import to_datetime
from headgate.api.schemas.session import (
    CurrentSessionResponse,
    MembershipResponse,
    to_person_response,
)
from headgate.audit.model import Actor


class VerifiedPassword(msgspec.Struct, frozen=True):
    """Hold a person whose password was verified, the hash that it matched, and a new hash if the
    parameters of that one are outdated."""

    person: Person
    stored: str
    renewed: str | None

    def __repr__(self) -> str:
        return f"VerifiedPassword({self.person.id})"


async def verify_password(
    context: RequestContext[Any, Any], email: str, password: str
) -> VerifiedPassword:
    """Return the person of an e-mail and a password.

    Whatever is wrong, do the same work and raise the same `SignInFailedError`. Raise
    `TooManySignInsError` and `SignInOverloadedError` as well.
    """
    services, authentication = context.services, context.services.authentication
    try:
        email = check_email(email)
    except InvalidEmailError:
        email = ""  # No person has it, so that an invalid address takes as long as an unknown one.
    context.request.state.sign_in = SignInAttempt(email, "")
    # Before any work, so that a flood of attempts costs little.
    authentication.login_rate_limiter.take(context.actor.address, email)
    person, stored = await context.read(
        lambda connection: services.people.find_with_password_hash(connection, email)
    )
    check = await authentication.hasher.verify(stored, password)
    if person is None or stored is None or not check.is_correct:
        context.request.state.sign_in = SignInAttempt(email, "" if person is None else person.id)
        raise SignInFailedError(NOT_SIGNED_IN)
    authentication.login_rate_limiter.refund(context.actor.address, email)
    # Only now is the password known in clear, so only now can an outdated hash be renewed.
    renewed = await authentication.hasher.hash(password) if check.needs_rehash else None
    return VerifiedPassword(person, stored, renewed)


def start_session(
    context: RequestContext[Any, Any],
    connection: sa.Connection,
    verified: VerifiedPassword,
    *,
    before: Login | None,
) -> Login:
    """Open a session after a verified password. Raise `SignInFailedError` if it changed since."""
    people = context.services.people
    person = people.check_password_hash_unchanged(connection, verified.person, verified.stored)
    if verified.renewed is not None:
        people.update_password_hash(connection, person, verified.renewed)
    return open_session(context, connection, person, method="password", before=before)


def open_session(
    context: RequestContext[Any, Any],
    connection: sa.Connection,
    person: Person,
    *,
    method: str,
    before: Login | None,
) -> Login:
    """Open a session under a new token, and end the browser's previous one (fixation)."""
    sessions = context.services.sessions
    if before is not None and before.session is not None:
        own = build_actor(context, before.person.id, before.person.email)
        sessions.end(connection, before.person.id, before.session.id, by=own)
    return sessions.open(connection, person, method=method, by=context.actor)


def build_actor(context: RequestContext[Any, Any], actor_id: str, name: str) -> Actor:
    """Return the request's actor with the identity that only the operation knows."""
    return msgspec.structs.replace(context.actor, id=actor_id, name=name)


def complete_sign_in(context: RequestContext[Any, Any], login: Login) -> CurrentSessionResponse:
    assert login.session is not None, "only for a session"
    seconds = login.session.expires_at - context.services.clock.now()
    cookies = context.services.authentication.cookies
    context.response_head.cookies.append(cookies.write_session(login.token, seconds=seconds))
    return to_current_session_response(context, login)


def to_current_session_response(
    context: RequestContext[Any, Any], login: Login
) -> CurrentSessionResponse:
    session = login.session
    return CurrentSessionResponse(
        session_id=None if session is None else session.id,
        person=to_person_response(login.person),
        organizations=[
            MembershipResponse(
                each.organization_id,
                each.organization_name,
                each.role.value,
                each.suspended_at is not None,
            )
            for each in login.memberships
        ],
        csrf_token=None if session is None else derive_csrf_token(login.token),
        expires_at=None
        if session is None
        else to_datetime(context.services.sessions.ends_at(session)),
    )
