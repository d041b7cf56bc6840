"""Authenticates people: by a session cookie, or by a bearer token of an issuer."""

from __future__ import annotations

import contextlib
import hmac
from typing import TYPE_CHECKING

import sqlalchemy as sa
from starlette.requests import Request

from headgate.accounts.model import Login, Session
from headgate.accounts.service import AccountLinking, SessionService, derive_csrf_token
from headgate.api.cookies import Cookies
from headgate.api.errors import ForbiddenError, InvalidCsrfTokenError, NotAuthenticatedError
from headgate.api.principal import Principal, PrincipalKind
from headgate.audit.model import Actor, ActorKind
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.errors import HeadgateError

if TYPE_CHECKING:
    from headgate.accounts.service.oidc import TokenAuthenticator

CSRF_HEADER = "x-csrf-token"
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS"})
SESSION_EXPIRED = "The session has ended. Sign in again."
UNKNOWN_IDENTITY = (
    "The token is valid, but no account is linked to it. Ask for an invitation first."
)


class RequestAuthenticator:
    """Find the person of a request. Every request reads the database, so that an ended session, a
    disabled person or a lost role takes effect in every process at once."""

    def __init__(
        self,
        storage: AsyncDatabase,
        sessions: SessionService,
        account_linking: AccountLinking,
        *,
        cookies: Cookies,
        tokens: TokenAuthenticator | None,
    ) -> None:
        self._storage = storage
        self._sessions = sessions
        self._account_linking = account_linking
        self._cookies = cookies
        self._tokens = tokens

    async def identify(self, request: Request, token: str) -> Principal | None:
        """Return the principal of the bearer token or else of the cookie; None without either.

        Raise `NotAuthenticatedError` for a session that is over, `InvalidCsrfTokenError` for a
        change by cookie without its CSRF token, and the errors of `TokenAuthenticator.verify`.
        """
        if token:
            return await self._identify_bearer(request, token)
        cookie = self._cookies.read_session(request)
        if not cookie:
            return None
        login = await self.find_session(request)
        if login is None:
            raise NotAuthenticatedError(SESSION_EXPIRED)
        if request.method not in SAFE_METHODS:
            check_csrf_token(request, cookie)
        return to_principal(login)

    async def find_session(self, request: Request) -> Login | None:
        """Return the login of the session cookie, or None where there is none or it is over."""
        cookie = self._cookies.read_session(request)
        if not cookie:
            return None
        login = await self._storage.read(lambda connection: self._sessions.find(connection, cookie))
        if login is not None and login.session is not None:
            await self._record_use(login.session)
        return login

    async def _record_use(self, session: Session) -> None:
        if not self._sessions.is_stale(session):
            return
        # A database that takes no writes must not keep people from reading.
        with contextlib.suppress(HeadgateError):
            await self._storage.write(lambda connection: self._sessions.touch(connection, session))

    async def _identify_bearer(self, request: Request, token: str) -> Principal | None:
        # A JWT has three parts. Anything else is not for an issuer.
        if self._tokens is None or token.count(".") != 2:
            return None
        external = await self._tokens.verify(token)

        def find(connection: sa.Connection) -> tuple[Login | None, bool]:
            login = self._account_linking.find_login(connection, external)
            return login, login is None and self._account_linking.has_account(connection, external)

        login, has_account = await self._storage.read(find)
        # Linking writes, so it is done only where it can succeed: other tokens cause no writes.
        if has_account:
            client = request.client.host if request.client else ""
            by = Actor(ActorKind.PERSON, external.subject, external.issuer, client)
            login = await self._storage.write(
                lambda connection: self._account_linking.link(connection, external, by=by)
            )
        if login is None:
            raise ForbiddenError(UNKNOWN_IDENTITY)
        return to_principal(login, token=token)


def check_csrf_token(request: Request, cookie: str) -> None:
    """Raise `InvalidCsrfTokenError` where another site's page may have sent the request."""
    sent = request.headers.get(CSRF_HEADER, "").encode("utf-8", "replace")
    if not hmac.compare_digest(sent, derive_csrf_token(cookie).encode()):
        raise InvalidCsrfTokenError(
            "A change by cookie needs the csrf_token of the session in the header X-CSRF-Token."
        )


def to_principal(login: Login, *, token: str | None = None) -> Principal:
    """Convert a login. `token` overrides the one of its session."""
    person, session = login.person, login.session
    return Principal(
        kind=PrincipalKind.PERSON,
        id=person.id,
        name=person.email,
        roles={each.organization_id: each.role for each in login.memberships},
        suspended=frozenset(
            each.organization_id for each in login.memberships if each.suspended_at is not None
        ),
        is_operator=person.is_operator,
        session_id=None if session is None else session.id,
        token=(login.token if token is None else token).encode(),
    )
