"""Master keys, organization keys, and the rotations that replace them."""

from __future__ import annotations

import enum

import msgspec

from headgate.kit.errors import HeadgateError, Kind


class MasterKeyState(enum.Enum):
    PENDING = "pending"
    """A rotation is wrapping organization keys under it. It opens nothing yet."""
    ACTIVE = "active"
    RETIRED = "retired"
    """Replaced by another key. Older backups still need it."""


class MasterKeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a master key without its material.

    `wrapped` is the material as a key service sealed it. `check_value` opens only under this key;
    `seals` counts what it sealed.
    """

    id: str
    check_value: bytes
    created_at: float
    provider: str = "local"
    key_name: str | None = None
    wrapped: bytes | None = None
    state: MasterKeyState = MasterKeyState.ACTIVE
    seals: int = 0
    retired_at: float | None = None


class OrganizationKeyRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the wrapped key of an organization (None: of the platform). A retired key seals nothing.
    `next_wrapped` is the same key under the master key that a running rotation activates."""

    id: str
    organization_id: str | None
    master_key_id: str
    wrapped: bytes
    created_at: float
    next_wrapped: bytes | None = None
    seals: int = 0
    retired_at: float | None = None


class RotationKind(enum.Enum):
    MASTER = "master"
    KEYS = "keys"


class RotationState(enum.Enum):
    RUNNING = "running"
    DONE = "done"
    ABANDONED = "abandoned"


EVERY_KEY = "all"
PLATFORM_KEY = "platform"


class Rotation(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a rotation and its progress: `done` of `total` rows, `failed` that do not open.

    `scope` is the id of the new master key or, for organization keys, an organization's id,
    `PLATFORM_KEY` or `EVERY_KEY`. Times are in unix seconds.
    """

    id: str
    kind: RotationKind
    scope: str
    state: RotationState
    done: int
    total: int
    failed: int
    started_at: float
    updated_at: float
    finished_at: float | None = None


class RotationConflictError(HeadgateError):
    """The rotation cannot begin or go on.

    Do what the message says; `headgate vault status` shows the present state.
    """

    kind = Kind.CONFLICT
    code = "rotation_refused"


class MasterKeyReplacedError(HeadgateError):
    """Another process replaced the master key, and this one still holds the old key.

    Restart this process with the new key.
    """

    kind = Kind.UNAVAILABLE
    code = "master_key_replaced"


class InvalidMasterKeyError(HeadgateError):
    """The master key is missing, weak, readable by others, or not the one of this database. Nothing
    was written.

    Give the right key; `docs/vault.md` says where it may be.
    """

    code = "master_key_refused"
