"""The record of a key, its states, and its errors."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from headgate.keys.model import permission
from headgate.keys.model.budget import THRESHOLDS
from headgate.keys.model.scope import Scope
from headgate.keys.model.token import KeyKind
from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.capacity_limits import CapacityEntry
from headgate.relay.ports import DisconnectPolicy


class KeyRequest(Scope, frozen=True, kw_only=True):
    name: str
    organization_id: str
    project_id: str
    kind: KeyKind = KeyKind.LIVE
    description: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    on_disconnect: DisconnectPolicy | None = None
    budget_thresholds: tuple[int, ...] = THRESHOLDS
    capacity: tuple[CapacityEntry, ...] = ()
    enforce_capacity: bool = True


class Key(Scope, frozen=True, kw_only=True):
    """Represent a stored key, without its secret. Times are unix seconds. `version` counts
    changes."""

    id: str
    kind: KeyKind
    name: str
    organization_id: str
    project_id: str
    created_at: float
    description: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    on_disconnect: DisconnectPolicy | None = None
    """None: as HEADGATE_DISCONNECT_POLICY says."""
    budget_thresholds: tuple[int, ...] = THRESHOLDS
    """The percentages of the monthly budget that are announced once in a month."""
    capacity: tuple[CapacityEntry, ...] = ()
    """Limits of its requests and tokens."""
    enforce_capacity: bool = True
    """Whether the limits of its capacity refuse calls."""
    disabled_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    rotated_at: float | None = None
    previous_expires_at: float | None = None
    """Until when the token from before the last rotation is accepted as well."""
    version: int = 1

    @property
    def effective_scope(self) -> Scope:
        """Return the scope with its defaults filled in."""
        return find_effective_scope(self)


class KeyState(enum.Enum):
    """Name the states of a key. Only an active key is accepted."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"
    REVOKED = "revoked"


class KeyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Select keys of an organization. `among` has the projects to which the caller is limited: then
    only keys of these, and no management key of the whole organization."""

    organization_id: str
    among: tuple[str, ...] = ()
    project_id: str | None = None
    kind: KeyKind | None = None
    state: KeyState | None = None
    search: str | None = None
    include_revoked: bool = True


class IssuedKey(msgspec.Struct, frozen=True):
    """Hold a new key and its token, which is not stored."""

    token: str
    key: Key


class InvalidApiKeyError(HeadgateError):
    """The API key is unknown, malformed, expired, disabled or revoked.

    Copy the key again, or issue a new one.
    """

    kind = Kind.UNAUTHENTICATED
    code = "invalid_api_key"


class KeyNotFoundError(HeadgateError):
    """There is no key of this id.

    List the keys with `headgate keys list` or `GET /api/api-keys`.
    """

    kind = Kind.MISSING
    code = "not_found"


class InvalidKeyRequestError(HeadgateError):
    """A field of the requested key is invalid.

    Correct the field that the message names.
    """

    kind = Kind.INVALID
    code = "invalid_key_request"


class KeyConflictError(HeadgateError):
    """The state of the key does not allow this change, or there are too many keys.

    Issue another key, or revoke one.
    """

    kind = Kind.CONFLICT
    code = "key_conflict"


class ScopeExceededError(HeadgateError):
    """The requested key would have more permissions than the caller has.

    Leave out the permission that the message names, or ask somebody who holds it.
    """

    kind = Kind.FORBIDDEN
    code = "scope_exceeds_issuer"


def find_state(key: Key, now: float) -> KeyState:
    """Return the state at a time in unix seconds."""
    if key.revoked_at is not None:
        return KeyState.REVOKED
    if key.disabled_at is not None:
        return KeyState.DISABLED
    is_expired = key.expires_at is not None and key.expires_at <= now
    return KeyState.EXPIRED if is_expired else KeyState.ACTIVE


def is_visible_to(key: Key, projects: Sequence[str]) -> bool:
    """Return whether a caller who is limited to these projects may see the key. No projects mean no
    limit."""
    if not projects:
        return True
    is_limited = key.kind is KeyKind.LIVE or bool(key.projects)
    return is_limited and key.project_id in projects


def find_effective_scope(key: Key | KeyRequest) -> Scope:
    """Return the scope with its defaults filled in.

    An inference key is limited to its own project at least and has no permissions. A management key
    without permissions has those of its organization.
    """
    if key.kind is KeyKind.LIVE:
        projects = tuple({key.project_id: None, **dict.fromkeys(key.projects)})
        return replace(key, projects=projects, permissions=())
    return replace(key, permissions=key.permissions or (permission.ORGANIZATION,))
