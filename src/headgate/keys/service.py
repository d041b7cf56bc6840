"""Issues keys, revokes them, and answers from memory what a token may do."""

from __future__ import annotations

import hashlib
import re

import sqlalchemy as sa

from headgate.accounts.model import check_name
from headgate.accounts.service import Accounts
from headgate.audit.model import Actor, Deed
from headgate.audit.service import AuditLog
from headgate.keys import store
from headgate.keys.model import (
    TOKEN_LENGTH_MAX,
    InvalidKey,
    IssuedKey,
    Key,
    KeyKind,
    KeyMissing,
    KeyRequest,
    KeyRequestRefused,
    make_token,
    name_token,
)
from headgate.kit.clock import Clock
from headgate.relay.ports import Grant

TOPIC = store.TOPIC
REQUESTS_PER_MINUTE_MAX = 1_000_000
PATTERNS_MAX = 256
_PATTERN = re.compile(r"[A-Za-z0-9_.:/*@-]{1,200}")


class Keys:
    """Writes keys. Nothing here commits; every change bumps the revision `TOPIC`."""

    def __init__(self, clock: Clock, accounts: Accounts, audit: AuditLog) -> None:
        self._clock = clock
        self._accounts = accounts
        self._audit = audit

    def create(self, connection: sa.Connection, request: KeyRequest, *, by: Actor) -> IssuedKey:
        """A new key with its token, which is not to be had again.

        Raises `KeyRequestRefused`, `NameRefused`, and `AccountMissing` for the project.
        """
        now = self._clock.now()
        _check_request(request, now)
        project = self._accounts.find_project(connection, request.project_id)
        if project.organization_id != request.organization_id:
            raise KeyRequestRefused("The project is not of this organization.", param="project_id")
        token, key_id = make_token(request.kind)
        key = Key(
            id=key_id,
            kind=request.kind,
            name=check_name(request.name),
            organization_id=project.organization_id,
            project_id=project.id,
            created_at=now,
            expires_at=request.expires_at,
            models=request.models,
            endpoints=request.endpoints,
            requests_per_minute=request.requests_per_minute,
            on_disconnect=request.on_disconnect,
        )
        store.insert_key(connection, key, digest=hashlib.sha256(token.encode()).digest())
        store.note_change(connection)
        fields = {"name": key.name, "kind": key.kind.value, "project_id": key.project_id}
        self._audit.record(connection, by, Deed("key.created", key.organization_id, key.id, fields))
        return IssuedKey(token, key)

    def revoke(self, connection: sa.Connection, key_id: str, *, by: Actor) -> Key:
        """The key, revoked for good; one that was revoked before stays so. `KeyMissing`."""
        key = store.select_key(connection, key_id)
        if key is None:
            raise KeyMissing(f"There is no key {key_id!r}.", param="id")
        if key.revoked_at is None:
            store.mark_revoked(connection, key_id, at=self._clock.now())
            store.note_change(connection)
            self._audit.record(connection, by, Deed("key.revoked", key.organization_id, key.id))
        return store.select_key(connection, key_id) or key

    def list(self, connection: sa.Connection) -> list[Key]:
        """Every key that ever was, the oldest first."""
        return [key for _, key in store.select_keys(connection)]


class KeyRing:
    """Answers from memory what a token may do (`relay.ports.Grants`).

    It looks up the SHA-256 of the whole token, so nothing about a near miss can be learned from
    the time that it takes, and only a miss is looked at closer to say what is wrong with it.
    """

    def __init__(self, clock: Clock) -> None:
        self._now = clock.now
        self._grants: dict[bytes, Grant] = {}
        self._refused: dict[bytes, str] = {}

    def load(self, connection: sa.Connection) -> None:
        """Take up the stored keys; calls that run meanwhile see the old ones."""
        grants: dict[bytes, Grant] = {}
        refused: dict[bytes, str] = {}
        for digest, key in store.select_keys(connection):
            if key.revoked_at is not None:
                refused[digest] = "has been revoked; use another one."
            elif key.disabled_at is not None:
                refused[digest] = "is disabled; ask its owner to enable it."
            else:
                grants[digest] = _grant(key)
        # Refusals first: between the two assignments a revoked key is in both, then in one.
        self._refused = refused
        self._grants = grants

    def find(self, token: bytes) -> Grant:
        """The grant of a token. Raises `InvalidKey` for a malformed, unknown, revoked, disabled
        or expired one, with a sentence that tells these apart."""
        if len(token) > TOKEN_LENGTH_MAX:
            raise _malformed()
        digest = hashlib.sha256(token).digest()
        grant = self._grants.get(digest)
        if grant is None:
            raise self._explain(token, digest)
        if grant.expires_at is not None and grant.expires_at <= self._now():
            raise InvalidKey(f"The API key {name_token(token)} has expired; use another one.")
        return grant

    def _explain(self, token: bytes, digest: bytes) -> InvalidKey:
        name = name_token(token)
        if name is None:
            return _malformed()
        reason = self._refused.get(digest, "is not known here; check which gateway it is for.")
        return InvalidKey(f"The API key {name} {reason}")


def _malformed() -> InvalidKey:
    return InvalidKey(
        "This is not a whole Headgate key (hg_live_... or hg_admin_...): "
        "its form or checksum is wrong. Copy it again."
    )


def _grant(key: Key) -> Grant:
    return Grant(
        key_id=key.id,
        organization_id=key.organization_id,
        project_id=key.project_id,
        management=key.kind is KeyKind.ADMIN,
        expires_at=key.expires_at,
        models=key.models,
        endpoints=key.endpoints,
        requests_per_minute=key.requests_per_minute,
        on_disconnect=key.on_disconnect,
    )


def _check_request(request: KeyRequest, now: float) -> None:
    if request.expires_at is not None and request.expires_at <= now:
        raise KeyRequestRefused("The time of expiry is in the past.", param="expires_at")
    if not 0 <= request.requests_per_minute <= REQUESTS_PER_MINUTE_MAX:
        message = f"Requests per minute are 0 (no limit) to {REQUESTS_PER_MINUTE_MAX}."
        raise KeyRequestRefused(message, param="requests_per_minute")
    for param, patterns in (("models", request.models), ("endpoints", request.endpoints)):
        if len(patterns) > PATTERNS_MAX or not all(map(_PATTERN.fullmatch, patterns)):
            message = (
                f"A list of {param} has at most {PATTERNS_MAX} entries "
                "of letters, digits and _.:/@-, with * for any part."
            )
            raise KeyRequestRefused(message, param=param)
