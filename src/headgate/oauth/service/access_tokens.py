"""Finds what an access token allows, for every request that carries one."""

from __future__ import annotations

from collections import OrderedDict

import msgspec
import sqlalchemy as sa

from headgate.accounts.service import PersonService
from headgate.keys.service import KeyIndex
from headgate.kit.clock import Clock
from headgate.kit.db.async_database import AsyncDatabase
from headgate.oauth.model.errors import RefusedAccessTokenError
from headgate.oauth.model.grant import ACCESS_TOKEN_PREFIX, OAuthGrant
from headgate.oauth.model.scope import close_scopes
from headgate.oauth.model.tokens import TOKEN_CHARACTERS_MAX, hash_token
from headgate.oauth.service.rights import NO_RIGHT, may_act
from headgate.oauth.store import grants as store
from headgate.relay.ports import Grant

CACHED_SECONDS = 5.0
CACHED_MAX = 10_000
UNKNOWN = "The access token is unknown, expired or revoked. Refresh it, or connect again."


class CachedGrant(msgspec.Struct, frozen=True):
    grant: OAuthGrant
    resource: str
    read_at: float


class AccessTokens:
    """Find grants by access token.

    What the database says of a token and its person is used for five seconds; whether the key is
    active is asked each time, so a revoked key ends the application at once.
    """

    def __init__(
        self,
        storage: AsyncDatabase,
        people: PersonService,
        key_index: KeyIndex,
        clock: Clock,
    ) -> None:
        self._storage = storage
        self._people = people
        self._key_index = key_index
        self._clock = clock
        self._cached: OrderedDict[bytes, CachedGrant] = OrderedDict()

    async def find(self, token: str, resource: str) -> tuple[OAuthGrant, Grant]:
        """Return what a token for this resource allows, and the grant of its key.

        Raise `RefusedAccessTokenError` for an unknown or expired one, for one of another resource,
        and where the key is not active, or the person may not use the organization any more.
        """
        if not token.startswith(ACCESS_TOKEN_PREFIX) or len(token) > TOKEN_CHARACTERS_MAX:
            raise RefusedAccessTokenError(UNKNOWN)
        digest = hash_token(token)
        known = self._cached.get(digest)
        now = self._clock.monotonic()
        if known is None or now - known.read_at >= CACHED_SECONDS:
            known = await self._storage.read(lambda connection: self._read(connection, digest, now))
            self._keep(digest, known)
        grant = known.grant
        if grant.expires_at <= self._clock.now():
            raise RefusedAccessTokenError(UNKNOWN)
        if known.resource != resource:
            raise RefusedAccessTokenError(
                f"The access token was issued for {known.resource}, and this is {resource}."
            )
        key = self._key_index.find_active(grant.key_id)
        if key is None or key.requires_signature:
            raise RefusedAccessTokenError(
                "The key of this connected application is not active, or accepts only signed "
                "requests. Connect the application again, or ask an admin."
            )
        self._key_index.note_use(grant.key_id)
        return grant, key

    def forget(self) -> None:
        """Read every token again: some have ended."""
        self._cached.clear()

    def _keep(self, digest: bytes, known: CachedGrant) -> None:
        self._cached[digest] = known
        self._cached.move_to_end(digest)
        if len(self._cached) > CACHED_MAX:
            self._cached.popitem(last=False)

    def _read(self, connection: sa.Connection, digest: bytes, now: float) -> CachedGrant:
        found = store.select_access_token(connection, digest)
        if found is None:
            raise RefusedAccessTokenError(UNKNOWN)
        expires_at, scopes, known = found
        application = known.application
        if known.grant.ended_at is not None or application.revoked_at is not None:
            raise RefusedAccessTokenError(UNKNOWN)
        person_id, organization_id = application.person_id, application.organization_id
        if not may_act(self._people, connection, person_id, organization_id):
            raise RefusedAccessTokenError(NO_RIGHT)
        grant = OAuthGrant(
            id=known.grant.id,
            key_id=application.key_id,
            person_id=application.person_id,
            organization_id=application.organization_id,
            project_id=application.project_id,
            scopes=close_scopes(scopes),
            expires_at=expires_at,
            client_name=application.client_name,
        )
        return CachedGrant(grant, known.grant.resource, now)
