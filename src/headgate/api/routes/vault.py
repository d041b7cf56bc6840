"""The keys that seal all secrets, and their rotation."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.api.access import platform
from headgate.api.operation import Operations, RequestContext
from headgate.api.shapes import Empty, to_datetime, to_optional_datetime
from headgate.vault.model.keys import (
    EVERY_KEY,
    MasterKeyRecord,
    Rotation,
)
from headgate.vault.service import KeyStatus

OPERATIONS = Operations("Vault", "The keys that seal all secrets, and their rotation.")
READ = platform("platform:read")
WRITE = platform("platform:write")


class VaultRotationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose organization keys are replaced: an organization's id, `platform`, or `all`."""

    scope: Annotated[str, Meta(min_length=1, max_length=200)] = EVERY_KEY


class RotationResponse(msgspec.Struct):
    """A rotation: `done` of `total` rows; `failed` do not open and stay as they are."""

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
    """The newest first, at most a hundred."""

    rotations: list[RotationResponse]


class MasterKeyResponse(msgspec.Struct):
    """A master key: who keeps it, by which name, and whether it is in force."""

    id: str
    provider: str
    name: str | None
    state: str
    created_at: datetime.datetime
    retired_at: datetime.datetime | None


class OrganizationKeyResponse(msgspec.Struct):
    """An organization key (none: the platform's), how many rows name it and how much it sealed."""

    id: str
    organization_id: str | None
    master_key_id: str
    rows: int
    seals: int
    is_worn: bool
    is_retired: bool
    opens: bool


class UnreadableRowResponse(msgspec.Struct):
    """A row that did not open when the server last looked, and why."""

    id: str
    table: str
    name: str
    reason: str


class VaultResponse(msgspec.Struct):
    """All keys, and what does not open."""

    master_keys: list[MasterKeyResponse]
    keys: list[OrganizationKeyResponse]
    unreadable: list[UnreadableRowResponse]


@OPERATIONS.get("/api/platform/vault", access=READ, summary="Read the state of the vault")
async def get_vault(context: RequestContext[Empty, Empty]) -> VaultResponse:
    """No key and no secret is in it. `headgate vault check` opens every seal anew."""
    desk = context.services.key_desk
    status = await context.read(desk.describe)
    faults = [
        UnreadableRowResponse(each.credential_id, each.table, each.name, each.reason)
        for each in desk.list_unreadable_rows()
    ]
    masters = [to_master_key_response(each) for each in status.master_keys]
    return VaultResponse(
        masters, [to_organization_key_response(each) for each in status.keys], faults
    )


@OPERATIONS.get("/api/platform/rotations", access=READ, summary="List rotations of keys")
async def list_rotations(context: RequestContext[Empty, Empty]) -> RotationList:
    """With their progress."""
    status = await context.read(context.services.key_desk.describe)
    return RotationList([to_rotation_response(each) for each in status.rotations])


@OPERATIONS.post(
    "/api/platform/rotations",
    access=WRITE,
    status=202,
    summary="Replace organization keys",
    errors=(404, 409, 503),
    example={"scope": "all"},
)
async def start_rotation(context: RequestContext[Empty, VaultRotationRequest]) -> RotationResponse:
    """Every secret is sealed anew while calls go on. One that was cut off is carried on. The master
    key is replaced by the command `headgate vault rotate-master` alone."""
    desk, scope = context.services.key_desk, context.body.scope
    rotation = await context.write(
        lambda connection: desk.begin(connection, scope, by=context.actor)
    )
    desk.carry_on(rotation, by=context.actor)
    return to_rotation_response(rotation)


def to_rotation_response(rotation: Rotation) -> RotationResponse:
    """A rotation as the API writes it."""
    return RotationResponse(
        id=rotation.id,
        kind=rotation.kind.value,
        scope=rotation.scope,
        state=rotation.state.value,
        done=rotation.done,
        total=rotation.total,
        failed=rotation.failed,
        started_at=to_datetime(rotation.started_at),
        updated_at=to_datetime(rotation.updated_at),
        finished_at=to_optional_datetime(rotation.finished_at),
    )


def to_master_key_response(record: MasterKeyRecord) -> MasterKeyResponse:
    """A master key as the API writes it."""
    return MasterKeyResponse(
        id=record.id,
        provider=record.provider,
        name=record.key_name,
        state=record.state.value,
        created_at=to_datetime(record.created_at),
        retired_at=to_optional_datetime(record.retired_at),
    )


def to_organization_key_response(status: KeyStatus) -> OrganizationKeyResponse:
    """An organization key as the API writes it."""
    return OrganizationKeyResponse(
        id=status.id,
        organization_id=status.organization_id,
        master_key_id=status.master_key_id,
        rows=status.rows,
        seals=status.seals,
        is_worn=status.is_worn,
        is_retired=status.is_retired,
        opens=status.opens,
    )
