"""Issues, changes, rotates and revokes keys."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from headgate.accounts.model import AccountNotFoundError, Project, check_name
from headgate.accounts.service import AccountService
from headgate.audit.model import Actor, ActorKind, AuditEvent
from headgate.audit.service import AuditLog
from headgate.keys import store
from headgate.keys.events import KeyRevoked
from headgate.keys.model import (
    InvalidApiKeyError,
    InvalidKeyRequestError,
    IssuedKey,
    Key,
    KeyConflictError,
    KeyFilter,
    KeyKind,
    KeyNotFoundError,
    KeyRequest,
    KeyState,
    find_state,
    make_token,
    normalize_lists,
)
from headgate.keys.model.budget import find_invalid_threshold
from headgate.keys.model.scope import InvalidScopeFormError
from headgate.keys.service.authority import (
    FULL_AUTHORITY,
    Authority,
    check_authority,
    check_change,
)
from headgate.kit import outbox
from headgate.kit.clock import Clock
from headgate.relay.capacity_limits import find_invalid_limit

OVERLAP_SECONDS_MAX = 30 * 86_400
DESCRIPTION_CHARACTERS_MAX = 1000
MICROSECONDS = 1_000_000

KeyOrRequest = TypeVar("KeyOrRequest", Key, KeyRequest)

_TRUSTED = (ActorKind.SYSTEM, ActorKind.COMMAND)
_NEVER_CHANGED = frozenset({"id", "kind", "organization_id", "project_id", "created_at"})


class KeyService:
    """Manage keys. The caller commits the transaction. Every change bumps the revision `TOPIC`.

    `authority` limits what the caller may grant. Only the command line and the system may omit it.
    """

    def __init__(
        self,
        clock: Clock,
        accounts: AccountService,
        audit: AuditLog,
        *,
        keys_max: int = 10_000,
        read_wanted: outbox.ReadWanted = outbox.want_nothing,
    ) -> None:
        self._clock = clock
        self._accounts = accounts
        self._audit = audit
        self._read_wanted = read_wanted
        self.keys_max = keys_max
        """The maximum number of unrevoked keys of an organization."""

    def create(
        self,
        connection: sa.Connection,
        request: KeyRequest,
        *,
        by: Actor,
        authority: Authority | None = None,
    ) -> IssuedKey:
        """Create a key and return it with its token.

        Raise `InvalidKeyRequestError`, `InvalidNameError`, `ScopeExceededError`, and
        `KeyConflictError` where the organization has too many keys.
        """
        now = self._clock.now()
        request = _normalize(request)
        check_authority(request, _find_authority(authority, by))
        project = self._find_project(connection, request)
        self._check_key_count(connection, project)
        token, key_id = make_token(request.kind)
        fields: dict[str, Any] = msgspec.structs.asdict(request)
        fields["name"] = check_name(request.name)
        key = Key(id=key_id, created_at=now, **fields)
        self._check(connection, key, now)
        store.insert_key(connection, key, digest=_digest(token))
        self._record(connection, by, "key.created", key, _describe(key))
        return IssuedKey(token, key)

    def update(
        self,
        connection: sa.Connection,
        key: Key,
        changes: Mapping[str, Any],
        *,
        enabled: bool | None = None,
        by: Actor,
        authority: Authority | None = None,
    ) -> Key:
        """Change fields of a key, or enable or disable it.

        Raise as `create`, and `KeyConflictError` for a revoked key or for the expiry of an expired
        one: neither becomes valid again.
        """
        assert _NEVER_CHANGED.isdisjoint(changes), "these fields never change"
        now = self._clock.now()
        _check_changeable(key, now, expiry="expires_at" in changes)
        authority = _find_authority(authority, by)
        after = replace(key, **changes)
        if "name" in changes:
            after = replace(after, name=check_name(after.name))
        after = _normalize(after)
        check_change(key, after, authority)
        self._check(connection, after, now, expiry="expires_at" in changes)
        if enabled is not None and enabled is (key.disabled_at is not None):
            # To enable a key is to grant everything that it holds.
            if enabled:
                check_authority(after, authority)
            after = replace(after, disabled_at=None if enabled else now)
        changed = _difference(key, after)
        if changed:
            store.update_key(connection, key, changed)
            self._record(connection, by, "key.updated", key, changed)
        return self.get(connection, key.organization_id, key.id)

    def revoke(self, connection: sa.Connection, key_id: str, *, by: Actor) -> Key:
        """Revoke all tokens of a key for good. Raise `KeyNotFoundError`."""
        key = self.get(connection, None, key_id)
        if key.revoked_at is None:
            now = self._clock.now()
            store.update_key(connection, key, {"revoked_at": now})
            self._record(connection, by, "key.revoked", key)
            self._publish(connection, key, now)
        return self.get(connection, key.organization_id, key.id)

    def rotate(
        self,
        connection: sa.Connection,
        key: Key,
        *,
        overlap_seconds: float,
        by: Actor,
        authority: Authority | None = None,
    ) -> IssuedKey:
        """Issue a new token for a key. The current token stays valid for the overlap, an older one
        ends.

        Raise `InvalidKeyRequestError`, `KeyConflictError` for a key that is revoked or expired, and
        `ScopeExceededError`, since the new token allows the caller whatever the key allows.
        """
        now = self._clock.now()
        _check_changeable(key, now, expiry=True)
        check_authority(key, _find_authority(authority, by))
        if not 0 <= overlap_seconds <= OVERLAP_SECONDS_MAX:
            message = f"An overlap is 0 to {OVERLAP_SECONDS_MAX} seconds."
            raise InvalidKeyRequestError(message, param="overlap_seconds")
        token, _ = make_token(key.kind, key.id)
        overlaps = overlap_seconds > 0
        changed = {
            "digest": _digest(token),
            "previous_digest": store.select_digest(connection, key) if overlaps else None,
            "previous_expires_at": now + overlap_seconds if overlaps else None,
            "rotated_at": now,
        }
        store.update_key(connection, key, changed)
        self._record(connection, by, "key.rotated", key, {"overlap_seconds": overlap_seconds})
        return IssuedKey(token, self.get(connection, key.organization_id, key.id))

    def end_overlap(self, connection: sa.Connection, key: Key, *, by: Actor) -> Key:
        """Refuse the token from before the last rotation at once."""
        if key.previous_expires_at is not None:
            changed = {"previous_digest": None, "previous_expires_at": None}
            store.update_key(connection, key, changed)
            self._record(connection, by, "key.previous_revoked", key)
        return self.get(connection, key.organization_id, key.id)

    def get(self, connection: sa.Connection, organization_id: str | None, key_id: str) -> Key:
        """Return a key of this organization, or of any for None. Raise `KeyNotFoundError`."""
        key = store.select_key(connection, key_id, organization_id=organization_id)
        if key is None:
            raise KeyNotFoundError(f"There is no key {key_id!r}.", param="id")
        return key

    def find_authority(
        self, connection: sa.Connection, organization_id: str, key_id: str
    ) -> Authority:
        """Return what a management key may grant, as stored now. Raise `InvalidApiKeyError` where
        it is not active any more."""
        key = store.select_key(connection, key_id, organization_id=organization_id)
        if key is None or find_state(key, self._clock.now()) is not KeyState.ACTIVE:
            raise InvalidApiKeyError("The API key is no longer active.")
        return Authority(key.effective_scope)

    def list(self, connection: sa.Connection) -> list[Key]:
        """Return every key, oldest first."""
        return list(store.select_all(connection))

    def count(self, connection: sa.Connection, organization_id: str) -> int:
        """Return how many keys of an organization are not revoked."""
        return store.count_unrevoked(connection, organization_id)

    def list_with_budget(
        self, connection: sa.Connection, organization_id: str, *, among: Sequence[str] = ()
    ) -> list[Key]:
        """Return the unrevoked keys of an organization that have a monthly budget, oldest first;
        of these projects, if there are any."""
        return store.select_with_budget(connection, organization_id, among=among)

    def list_page(
        self, connection: sa.Connection, key_filter: KeyFilter, *, limit: int, offset: int = 0
    ) -> tuple[list[Key], int]:
        """Return a page of an organization's keys, newest first, and their total number."""
        now = self._clock.now()
        list_page = store.select_page(connection, key_filter, now=now, limit=limit, offset=offset)
        return list_page, store.count_keys(connection, key_filter, now=now)

    def _find_project(self, connection: sa.Connection, request: KeyRequest) -> Project:
        try:
            return self._accounts.get_project(
                connection, request.organization_id, request.project_id
            )
        except AccountNotFoundError as error:
            message = "The project does not belong to this organization."
            raise InvalidKeyRequestError(message, param="project_id") from error

    def _check_key_count(self, connection: sa.Connection, project: Project) -> None:
        if project.archived_at is not None:
            raise InvalidKeyRequestError("The project is archived.", param="project_id")
        if store.count_unrevoked(connection, project.organization_id) >= self.keys_max:
            raise KeyConflictError(
                f"The organization has the maximum of {self.keys_max} keys. Revoke some first."
            )

    def _check(
        self, connection: sa.Connection, key: Key, now: float, *, expiry: bool = True
    ) -> None:
        if expiry and key.expires_at is not None and key.expires_at <= now:
            raise InvalidKeyRequestError("The expiry is in the past.", param="expires_at")
        if len(key.description) > DESCRIPTION_CHARACTERS_MAX or "\0" in key.description:
            message = f"A description has at most {DESCRIPTION_CHARACTERS_MAX} characters of text."
            raise InvalidKeyRequestError(message, param="description")
        problem = find_invalid_threshold(key.budget_thresholds)
        if problem is not None:
            raise InvalidKeyRequestError(problem, param="budget_thresholds")
        contradiction = find_invalid_limit(key.capacity, of_credential=False)
        if contradiction is not None:
            index, message = contradiction
            raise InvalidKeyRequestError(message, param=f"capacity.{index}")
        if key.kind is KeyKind.LIVE and key.permissions:
            message = "An inference key cannot have permissions. Issue a management key."
            raise InvalidKeyRequestError(message, param="permissions")
        if key.kind is KeyKind.ADMIN and key.projects and key.project_id not in key.projects:
            message = "The projects of a management key must include its own project."
            raise InvalidKeyRequestError(message, param="projects")
        for project_id in key.projects:
            self._check_project(connection, key.organization_id, project_id)

    def _check_project(
        self, connection: sa.Connection, organization_id: str, project_id: str
    ) -> None:
        try:
            self._accounts.get_project(connection, organization_id, project_id)
        except AccountNotFoundError as error:
            message = f"There is no project {project_id!r} in this organization."
            raise InvalidKeyRequestError(message, param="projects") from error

    def _record(
        self,
        connection: sa.Connection,
        by: Actor,
        action: str,
        key: Key,
        changes: dict[str, Any] | None = None,
    ) -> None:
        fields = msgspec.to_builtins(changes or {})
        self._audit.record(connection, by, AuditEvent(action, key.organization_id, key.id, fields))

    def _publish(self, connection: sa.Connection, key: Key, now: float) -> None:
        if (KeyRevoked.type, key.organization_id) not in self._read_wanted(connection):
            return
        event = KeyRevoked(key.id, key.organization_id, key.project_id, key.name, now)
        store.append_event(
            connection,
            (
                f"{KeyRevoked.type}:{key.id}",
                int(now * MICROSECONDS),
                KeyRevoked.type,
                key.organization_id,
                msgspec.json.encode(event),
            ),
        )


def _normalize(scope: KeyOrRequest) -> KeyOrRequest:
    """Return the same with normalized lists. Raise `InvalidKeyRequestError`."""
    try:
        return replace(scope, **normalize_lists(scope))
    except InvalidScopeFormError as fault:
        raise InvalidKeyRequestError(fault.message, param=fault.dimension) from fault


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def _find_authority(authority: Authority | None, by: Actor) -> Authority:
    if authority is None:
        assert by.kind in _TRUSTED, "only the command line and the system have no limits"
        return FULL_AUTHORITY
    return authority


def _check_changeable(key: Key, now: float, *, expiry: bool) -> None:
    state = find_state(key, now)
    if state is KeyState.REVOKED:
        raise KeyConflictError("The key is revoked for good. Issue another one.")
    if expiry and key.expires_at is not None and key.expires_at <= now:
        raise KeyConflictError("The key has expired for good. Issue another one.")


def _describe(key: Key) -> dict[str, Any]:
    fields = msgspec.structs.asdict(key)
    recorded = {"name", "kind", "project_id", *_CHANGEABLE}
    return {name: value for name, value in fields.items() if name in recorded and value}


def _difference(before: Key, after: Key) -> dict[str, Any]:
    return {
        name: getattr(after, name)
        for name in (*_CHANGEABLE, "name", "disabled_at")
        if getattr(before, name) != getattr(after, name)
    }


_CHANGEABLE = (
    "description",
    "labels",
    "on_disconnect",
    "expires_at",
    "models",
    "endpoints",
    "projects",
    "networks",
    "resources",
    "tools",
    "permissions",
    "requests_per_minute",
    "tokens_per_minute",
    "monthly_budget_nano",
    "budget_managed_only",
    "requires_signature",
    "budget_thresholds",
    "capacity",
    "enforce_capacity",
)
