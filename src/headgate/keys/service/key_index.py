"""The index of keys in memory, by which every call is authenticated."""

from __future__ import annotations

import functools
import hashlib
import heapq

import sqlalchemy as sa

from headgate.accounts.model import InactiveAccounts
from headgate.accounts.service import TOPIC as ACCOUNTS_TOPIC
from headgate.accounts.service import find_inactive_accounts
from headgate.keys import store
from headgate.keys.model import TOKEN_LENGTH_MAX, InvalidApiKeyError, read_public_prefix
from headgate.keys.model.scope import parse_network
from headgate.keys.model.token import ID_PREFIX
from headgate.keys.store import StoredKey
from headgate.kit.clock import Clock
from headgate.kit.http.addresses import Network
from headgate.relay.ports import Grant

REPLACED = "was replaced by a rotation whose overlap is over; use the new token."
# A key is refused with its project and its organization, too.
TOPICS = frozenset({store.TOPIC, ACCOUNTS_TOPIC})
_NEVER = -1


class KeyIndex:
    """Find the grant of a token (`relay.ports.Grants`).

    The index is by the SHA-256 of the whole token, so that response times tell nothing about a near
    miss. Only a miss is examined further to explain it. A key that was seen expired stays expired,
    even if the clock is set back.
    """

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now
        self._grants: dict[bytes, Grant] = {}
        self._refusal_reasons: dict[bytes, str] = {}
        self._stored: dict[str, StoredKey] = {}
        self._inactive = InactiveAccounts()
        self._revision = _NEVER
        self._latest = 0.0
        self._used: set[str] = set()
        self._deactivated: set[str] = set()
        self._expirations: list[tuple[float, str]] = []

    def load(self, connection: sa.Connection) -> None:
        """Index the keys that changed since the last load; all of them at first. Concurrent calls
        see each key either before or after its change."""
        if self._revision == _NEVER:
            self._latest = store.select_latest_time(connection)
        self.observe_time()
        before, self._inactive = self._inactive, find_inactive_accounts(connection)
        # The rows of these keys did not change, but whether they are accepted did.
        if before != self._inactive and self._stored:
            projects = before.projects ^ self._inactive.projects
            organizations = before.organizations ^ self._inactive.organizations
            for key in list(self._stored.values()):
                if key.organization_id in organizations or not projects.isdisjoint(
                    (key.project_id, *key.projects)
                ):
                    self._index_key(key)
        revision = self._revision
        for key in store.select_changed(connection, after_revision=revision):
            self._index_key(key)
            self._revision = max(self._revision, key.revision)

    def find(self, token: bytes) -> Grant:
        """Return the grant of a token.

        Raise `InvalidApiKeyError` for a malformed, unknown, revoked, disabled or expired one, with
        a message that tells these apart.
        """
        if len(token) > TOKEN_LENGTH_MAX:
            raise _malformed()
        digest = hashlib.sha256(token).digest()
        grant = self._grants.get(digest)
        if grant is None:
            raise self._explain(token, digest)
        # Most keys have no expiry, and then the clock is not read.
        if grant.expires_at is not None and grant.expires_at <= self.observe_time():
            raise self._explain_expiry(token, digest, grant)
        self._used.add(grant.key_id)
        return grant

    def find_owner(self, token: bytes) -> tuple[str, str] | None:
        """Return key id and organization id for the public id in a well-formed token, or None. The
        secret is not checked: use it for logs only."""
        name = read_public_prefix(token)
        stored = self._stored.get(ID_PREFIX + name.rpartition("_")[2]) if name else None
        return None if stored is None else (stored.id, stored.organization_id)

    def find_active(self, key_id: str) -> Grant | None:
        """Return the grant of a key by its id; None for one that is not accepted now."""
        stored = self._stored.get(key_id)
        if stored is None or self._find_reason(stored) is not None:
            return None
        if stored.expires_at is not None and stored.expires_at <= self.observe_time():
            return None
        return self._grant(stored, None)

    def note_use(self, key_id: str) -> None:
        """Count a use of a key whose token was not presented: of a connected application."""
        self._used.add(key_id)

    def observe_time(self) -> float:
        """Return the latest time seen so far, which is now unless the clock was set back."""
        now = self._now()
        if now > self._latest:
            self._latest = now
        return self._latest

    def take_used(self) -> list[str]:
        """Return the keys that were used since the last call of this."""
        used, self._used = self._used, set()
        return list(used)

    def take_deactivated(self) -> frozenset[str]:
        """Return the keys that ceased to be active since the last call of this."""
        deactivated, self._deactivated = self._deactivated, set()
        now = self.observe_time()
        # An expiry changes no row, so no reload reports it.
        while self._expirations and self._expirations[0][0] <= now:
            ends_at, key_id = heapq.heappop(self._expirations)
            # A changed expiry leaves the old entry in the heap.
            if self._stored[key_id].expires_at == ends_at:
                deactivated.add(key_id)
        return frozenset(deactivated)

    def _index_key(self, key: StoredKey) -> None:
        before = self._stored.get(key.id)
        self._stored[key.id] = key
        reason = self._find_reason(key)
        tokens = _list_tokens(key)
        if before is not None:
            was_active = before.digest in self._grants
            # A rotation ended these tokens. They stay known to say so.
            for digest in set(_list_tokens(before)) - set(tokens):
                self._refuse(digest, REPLACED)
            if was_active and reason is not None:
                self._deactivated.add(key.id)
        for digest in tokens:
            if reason is not None:
                self._refuse(digest, reason)
                continue
            ends_at = key.previous_expires_at if digest == key.previous_digest else None
            self._grants[digest] = self._grant(key, ends_at)
            self._refusal_reasons.pop(digest, None)
        if reason is None and key.expires_at is not None:
            heapq.heappush(self._expirations, (key.expires_at, key.id))

    def _refuse(self, digest: bytes, reason: str) -> None:
        # In this order, so that a concurrent `find` meets the token in at least one of both.
        self._refusal_reasons[digest] = reason
        self._grants.pop(digest, None)

    def _find_reason(self, key: StoredKey) -> str | None:
        """Return why a key is refused regardless of its expiry, or None."""
        if key.revoked_at is not None:
            return "has been revoked; use another key."
        if key.disabled_at is not None:
            return "is disabled; ask its owner to enable it."
        if key.organization_id in self._inactive.organizations:
            return "belongs to a suspended organization."
        # A management key of the whole organization does not end with its project.
        is_of_project = key.is_live or key.projects
        if key.project_id in self._inactive.projects and is_of_project:
            return "belongs to an archived project."
        return None

    def _grant(self, key: StoredKey, ends_at: float | None) -> Grant:
        expires_at = key.expires_at
        if ends_at is not None:
            expires_at = ends_at if expires_at is None else min(expires_at, ends_at)
        projects = key.projects
        if projects and key.is_live:
            projects = tuple(each for each in projects if each not in self._inactive.projects)
        return Grant(
            key_id=key.id,
            organization_id=key.organization_id,
            project_id=key.project_id,
            management=not key.is_live,
            expires_at=expires_at,
            models=key.models,
            endpoints=key.endpoints,
            requests_per_minute=key.requests_per_minute,
            on_disconnect=key.on_disconnect,
            permissions=key.permissions,
            projects=projects,
            networks=_parse_networks(key.networks),
            resources=key.resources,
            tools=key.tools,
            tokens_per_minute=key.tokens_per_minute,
            requires_signature=key.requires_signature,
            capacity=key.capacity,
        )

    def _explain(self, token: bytes, digest: bytes) -> InvalidApiKeyError:
        name = read_public_prefix(token)
        if name is None:
            return _malformed()
        reason = self._refusal_reasons.get(
            digest, "is unknown; check that it was issued by this gateway."
        )
        return InvalidApiKeyError(f"The API key {name} {reason}")

    def _explain_expiry(self, token: bytes, digest: bytes, grant: Grant) -> InvalidApiKeyError:
        stored = self._stored[grant.key_id]
        is_whole_key = stored.expires_at == grant.expires_at
        is_replaced = digest == stored.previous_digest and not is_whole_key
        reason = REPLACED if is_replaced else "has expired; use another key."
        return InvalidApiKeyError(f"The API key {read_public_prefix(token)} {reason}")


def flush_used(connection: sa.Connection, used: list[str], *, at: float) -> None:
    store.mark_used(connection, used, at=at)


@functools.lru_cache(maxsize=4096)
def _parse_networks(networks: tuple[str, ...]) -> tuple[Network, ...]:
    return tuple(map(parse_network, networks))


def _list_tokens(stored: StoredKey) -> list[bytes]:
    if stored.previous_digest is None:
        return [stored.digest]
    return [stored.digest, stored.previous_digest]


def _malformed() -> InvalidApiKeyError:
    return InvalidApiKeyError(
        "This is not a valid Headgate key (hg_live_... or hg_admin_...): "
        "its format or checksum is wrong. Copy it again."
    )
