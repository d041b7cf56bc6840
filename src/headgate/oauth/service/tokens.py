"""Issues, renews and revokes the tokens of connected applications."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from headgate.accounts.service import PersonService
from headgate.audit.model import Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.keys.model import KeyState, find_state
from headgate.keys.service import KeyService
from headgate.kit.clock import Clock
from headgate.oauth.model.challenge import build_resource
from headgate.oauth.model.errors import InvalidOAuthGrantError, InvalidOAuthScopeError
from headgate.oauth.model.grant import ACCESS_TOKEN_PREFIX, IssuedTokens
from headgate.oauth.model.scope import close_scopes
from headgate.oauth.model.tokens import (
    TOKEN_CHARACTERS_MAX,
    derive_successor,
    hash_token,
    is_verified,
    make_access_token,
    make_refresh_token,
    make_salt,
)
from headgate.oauth.service.rights import NO_RIGHT, may_act
from headgate.oauth.store import grants as store
from headgate.oauth.store.grants import GrantOfToken

ACCESS_TOKENS_MAX = 100
"""How many access tokens of one grant are accepted at a time; a new one ends the oldest."""
USED_REFRESH_TOKENS_MAX = 1_000
"""How many used refresh tokens of one grant are recognized, to notice when one is used again."""
UNKNOWN_CODE = "The code is unknown, expired or used up, or is of another application."
UNKNOWN_REFRESH = "The refresh token is unknown, expired or revoked. Connect the application again."
REUSED = "This token was used before, so the connection has ended. Connect the application again."
KEY_ENDED = "The application was disconnected, or its key is not active any more."


class TokenLifetimes(msgspec.Struct, frozen=True, kw_only=True):
    """Hold how long tokens are accepted. A refresh token counts from when it was issued; for
    `grace_seconds` after its first use it gives the same successor again."""

    access_seconds: float = 3_600.0
    refresh_seconds: float = 2_592_000.0
    grace_seconds: float = 60.0


class CodeRedemption(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what an application sends with an authorization code."""

    code: str
    client_id: str
    redirect_uri: str | None
    verifier: str
    base_url: str


class TokenService:
    """Manage tokens. The caller commits the transaction.

    What must be committed although the request fails (the end of a grant whose token was used
    again) is done here, and the error is returned, not raised.
    """

    def __init__(
        self,
        people: PersonService,
        keys: KeyService,
        audit: AuditLog,
        *,
        clock: Clock,
        lifetimes: TokenLifetimes,
    ) -> None:
        self._people = people
        self._keys = keys
        self._audit = audit
        self._clock = clock
        self._lifetimes = lifetimes

    def redeem(
        self, connection: sa.Connection, redemption: CodeRedemption, *, by: Actor
    ) -> IssuedTokens | InvalidOAuthGrantError:
        """Exchange a code for tokens, once. Raise `InvalidOAuthGrantError`."""
        digest, now = hash_token(redemption.code), self._clock.now()
        found = store.select_code(connection, digest)
        if found is None:
            raise InvalidOAuthGrantError(UNKNOWN_CODE)
        code, known = found
        _check_client(known, redemption.client_id, UNKNOWN_CODE)
        _check_server(known, redemption.base_url)
        if redemption.redirect_uri not in (None, code.redirect_uri):
            message = "The redirect_uri is not the one to which the code was sent."
            raise InvalidOAuthGrantError(message, param="redirect_uri")
        if not is_verified(code.challenge, redemption.verifier):
            raise InvalidOAuthGrantError("The code_verifier does not match.", param="code_verifier")
        if code.used_at is not None or not store.use_code(connection, digest, at=now):
            return self._end(connection, known, now, by=by)
        if code.expires_at <= now:
            raise InvalidOAuthGrantError(UNKNOWN_CODE)
        self._check_alive(connection, known, now)
        refresh_token = make_refresh_token()
        self._store_refresh(connection, refresh_token, known, now)
        return self._issue(connection, known, refresh_token, known.grant.scopes, now)

    def refresh(
        self,
        connection: sa.Connection,
        refresh_token: str,
        *,
        client_id: str,
        scope: str | None,
        base_url: str,
        by: Actor,
    ) -> IssuedTokens | InvalidOAuthGrantError:
        """Exchange a refresh token for its successor and an access token.

        All who use one at the same time, or again within the grace, get the same successor. Raise
        `InvalidOAuthGrantError` and `InvalidOAuthScopeError`.
        """
        digest, now = hash_token(refresh_token[:TOKEN_CHARACTERS_MAX]), self._clock.now()
        found = store.select_refresh_token(connection, digest)
        if found is None or found[0].expires_at <= now:
            raise InvalidOAuthGrantError(UNKNOWN_REFRESH)
        known = found[1]
        _check_client(known, client_id, UNKNOWN_REFRESH)
        _check_server(known, base_url)
        self._check_alive(connection, known, now)
        scopes = _narrow(known.grant.scopes, scope)
        salt = make_salt()
        if store.use_refresh_token(connection, digest, at=now, salt=salt):
            successor = derive_successor(refresh_token, salt)
            self._store_refresh(connection, successor, known, now)
        else:
            # As the process that was first has committed it.
            found = store.select_refresh_token(connection, digest)
            if found is None:
                raise InvalidOAuthGrantError(UNKNOWN_REFRESH)
            used_at, salt = found[0].used_at, found[0].salt
            assert used_at is not None, "a used token has its time"
            assert salt is not None, "a used token has its salt"
            if now - used_at > self._lifetimes.grace_seconds:
                return self._end(connection, known, now, by=by)
            successor = derive_successor(refresh_token, salt)
        return self._issue(connection, known, successor, scopes, now)

    def revoke(self, connection: sa.Connection, token: str, *, client_id: str | None) -> None:
        """End an access token, or the grant of a refresh token (RFC 7009). Do nothing for an
        unknown one, and for one of another application."""
        digest = hash_token(token[:TOKEN_CHARACTERS_MAX])
        if token.startswith(ACCESS_TOKEN_PREFIX):
            access = store.select_access_token(connection, digest)
            if access is not None and client_id in (None, access[2].application.client_id):
                store.delete_access_token(connection, digest)
            return
        refresh = store.select_refresh_token(connection, digest)
        if refresh is not None and client_id in (None, refresh[1].application.client_id):
            store.end_grant(connection, refresh[1].grant.id, at=self._clock.now())

    def _end(
        self, connection: sa.Connection, known: GrantOfToken, now: float, *, by: Actor
    ) -> InvalidOAuthGrantError:
        """End the grant of a code or token that was used again: somebody else may have it."""
        if store.end_grant(connection, known.grant.id, at=now):
            application = known.application
            event = AuditEvent(
                "application.token_reused",
                application.organization_id,
                application.id,
                {"grant_id": known.grant.id},
            )
            self._audit.record(connection, by, event)
        return InvalidOAuthGrantError(REUSED)

    def _check_alive(self, connection: sa.Connection, known: GrantOfToken, now: float) -> None:
        application = known.application
        if known.grant.ended_at is not None or application.revoked_at is not None:
            raise InvalidOAuthGrantError(KEY_ENDED)
        key = self._keys.get(connection, application.organization_id, application.key_id)
        if find_state(key, now) is not KeyState.ACTIVE:
            raise InvalidOAuthGrantError(KEY_ENDED)
        person_id, organization_id = application.person_id, application.organization_id
        if not may_act(self._people, connection, person_id, organization_id):
            raise InvalidOAuthGrantError(NO_RIGHT)

    def _store_refresh(
        self, connection: sa.Connection, token: str, known: GrantOfToken, now: float
    ) -> None:
        store.delete_used_refresh_tokens(
            connection, known.grant.id, kept_max=USED_REFRESH_TOKENS_MAX
        )
        store.insert_refresh_token(
            connection,
            hash_token(token),
            known.grant.id,
            expires_at=now + self._lifetimes.refresh_seconds,
        )

    def _issue(
        self,
        connection: sa.Connection,
        known: GrantOfToken,
        refresh_token: str,
        scopes: Sequence[str],
        now: float,
    ) -> IssuedTokens:
        if known.application.connected_at is None:
            store.mark_connected(connection, known.application.id, at=now)
        access_token, seconds = make_access_token(), self._lifetimes.access_seconds
        store.delete_old_access_tokens(
            connection, known.grant.id, now=now, kept_max=ACCESS_TOKENS_MAX - 1
        )
        store.insert_access_token(
            connection,
            hash_token(access_token),
            known.grant.id,
            scopes=scopes,
            expires_at=now + seconds,
        )
        return IssuedTokens(
            access_token=access_token,
            refresh_token=refresh_token,
            expires_in=int(seconds),
            scopes=tuple(scopes),
        )


def _check_client(known: GrantOfToken, client_id: str, message: str) -> None:
    if known.application.client_id != client_id:
        raise InvalidOAuthGrantError(message)


def _check_server(known: GrantOfToken, base_url: str) -> None:
    resource = build_resource(base_url)
    if known.grant.resource != resource:
        raise InvalidOAuthGrantError(
            f"The application was connected to {known.grant.resource}, and this is {resource}. "
            "Connect it again here, or use the address that it was connected to."
        )


def _narrow(granted: tuple[str, ...], scope: str | None) -> tuple[str, ...]:
    """Return the scopes of a refreshed token: all, or fewer if that is asked for."""
    wanted = close_scopes((scope or "").split())
    if not wanted:
        return granted
    if not set(wanted).issubset(granted):
        raise InvalidOAuthScopeError(
            f"The person consented to {' '.join(granted)} only.", param="scope"
        )
    return wanted
