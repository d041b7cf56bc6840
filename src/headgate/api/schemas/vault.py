"""Keys of the vault and their rotations as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.api.schemas.fields import build_response
from headgate.vault.model.keys import (
    EVERY_KEY,
    MasterKeyRecord,
    Rotation,
)
from headgate.vault.service import KeyStatus


class VaultRotationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The organization keys to replace: `all`, `platform`, or the id of an organization."""

    scope: Annotated[str, Meta(min_length=1, max_length=200)] = EVERY_KEY


class RotationResponse(msgspec.Struct):
    """A rotation of organization keys: `done` of `total` rows are encrypted again. `failed` rows
    could not be decrypted and stay as they are."""

    id: str
    kind: str
    scope: str
    state: str
    done: int
    total: int
    failed: int
    started_at: datetime.datetime
    updated_at: datetime.datetime
    finished_at: datetime.datetime | None


class RotationList(msgspec.Struct):
    """The newest rotations first, at most 100."""

    rotations: list[RotationResponse]


class MasterKeyResponse(msgspec.Struct):
    """A master key: who keeps it, its name there, and its state."""

    id: str
    provider: str
    name: str | None
    state: str
    created_at: datetime.datetime
    retired_at: datetime.datetime | None


class OrganizationKeyResponse(msgspec.Struct):
    """An encryption key of an organization, or of the platform if `organization_id` is null. `rows`
    is how many rows it protects, `seals` how many secrets it has encrypted."""

    id: str
    organization_id: str | None
    master_key_id: str
    rows: int
    seals: int
    is_worn: bool
    is_retired: bool
    opens: bool


class UnreadableRowResponse(msgspec.Struct):
    """A row that could not be decrypted, and the reason."""

    id: str
    table: str
    name: str
    reason: str


class VaultResponse(msgspec.Struct):
    """All encryption keys, and the rows that could not be decrypted."""

    master_keys: list[MasterKeyResponse]
    keys: list[OrganizationKeyResponse]
    unreadable: list[UnreadableRowResponse]


def to_rotation_response(rotation: Rotation) -> RotationResponse:
    return build_response(RotationResponse, rotation)


def to_master_key_response(record: MasterKeyRecord) -> MasterKeyResponse:
    return build_response(MasterKeyResponse, record, name=record.key_name)


def to_organization_key_response(status: KeyStatus) -> OrganizationKeyResponse:
    return build_response(OrganizationKeyResponse, status)
