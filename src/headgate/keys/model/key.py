"""The record of a key, and why one is refused."""

from __future__ import annotations

import enum
from collections.abc import Sequence

import msgspec
from msgspec.structs import replace

from headgate.keys.model import permission
from headgate.keys.model.scope import Scope
from headgate.keys.model.token import KeyKind
from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.ports import DisconnectPolicy


class KeyRequest(Scope, frozen=True, kw_only=True):
    """What a new key shall be and may do."""

    name: str
    organization_id: str
    project_id: str
    kind: KeyKind = KeyKind.LIVE
    description: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    on_disconnect: DisconnectPolicy | None = None


class Key(Scope, frozen=True, kw_only=True):
    """A key as it is stored: never its secret. Times in unix seconds; `version` counts changes."""

    id: str
    kind: KeyKind
    name: str
    organization_id: str
    project_id: str
    created_at: float
    description: str = ""
    labels: dict[str, str] = msgspec.field(default_factory=dict[str, str])
    on_disconnect: DisconnectPolicy | None = None
    """None leaves it to the setting."""
    disabled_at: float | None = None
    revoked_at: float | None = None
    last_used_at: float | None = None
    rotated_at: float | None = None
    previous_expires_at: float | None = None
    """Until when the token before the last rotation is good, too; None where there is none."""
    version: int = 1

    @property
    def effective_scope(self) -> Scope:
        """All that it may do, with what is meant where nothing is said."""
        return find_effective_scope(self)


class KeyState(enum.Enum):
    """Whether a key opens anything, and why not."""

    ACTIVE = "active"
    DISABLED = "disabled"
    EXPIRED = "expired"
    REVOKED = "revoked"


class KeyFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Which keys of an organization. `among` are the projects of somebody who is limited to them:
    only keys of these, and no management key of the whole organization."""

    organization_id: str
    among: tuple[str, ...] = ()
    project_id: str | None = None
    kind: KeyKind | None = None
    state: KeyState | None = None
    search: str | None = None
    include_revoked: bool = True


class IssuedKey(msgspec.Struct, frozen=True):
    """A key at the one moment when its token is known."""

    token: str
    key: Key


class InvalidApiKeyError(HeadgateError):
    """The presented token opens nothing now."""

    kind = Kind.UNAUTHENTICATED
    code = "invalid_api_key"


class KeyNotFoundError(HeadgateError):
    """No key of that id."""

    kind = Kind.MISSING
    code = "not_found"


class InvalidKeyRequestError(HeadgateError):
    """A key was asked for with something that it cannot have; `param` names it."""

    kind = Kind.INVALID
    code = "invalid_key_request"


class KeyConflictError(HeadgateError):
    """What was asked for cannot be done to a key in its state, or to one more."""

    kind = Kind.CONFLICT
    code = "key_conflict"


class ScopeExceededError(HeadgateError):
    """A key was asked for that may do more than who asks for it (A4)."""

    kind = Kind.FORBIDDEN
    code = "scope_exceeds_issuer"


def find_state(key: Key, now: float) -> KeyState:
    """Its state at a time in unix seconds."""
    if key.revoked_at is not None:
        return KeyState.REVOKED
    if key.disabled_at is not None:
        return KeyState.DISABLED
    is_over = key.expires_at is not None and key.expires_at <= now
    return KeyState.EXPIRED if is_over else KeyState.ACTIVE


def is_visible_to(key: Key, projects: Sequence[str]) -> bool:
    """Whether somebody who is limited to these projects (none: to nothing) may know of a key."""
    if not projects:
        return True
    is_limited = key.kind is KeyKind.LIVE or bool(key.projects)
    return is_limited and key.project_id in projects


def find_effective_scope(key: Key | KeyRequest) -> Scope:
    """The scope of a key with what is meant where nothing is said.

    An inference key is of its own project at least and holds no permission; a management key
    without any holds those of its organization.
    """
    if key.kind is KeyKind.LIVE:
        projects = tuple({key.project_id: None, **dict.fromkeys(key.projects)})
        return replace(key, projects=projects, permissions=())
    return replace(key, permissions=key.permissions or (permission.ORGANIZATION,))
