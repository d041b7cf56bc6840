"""The keys that seal all secrets, and their rotation."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.api.access import platform
from headgate.api.operation import Ask, Operations
from headgate.api.shapes import Nothing, show_time, show_time_if_any
from headgate.vault.model.keys import (
    EVERY_KEY,
    MasterKeyRecord,
    Rotation,
)
from headgate.vault.service import KeyStatus

OPERATIONS = Operations("Vault", "The keys that seal all secrets, and their rotation.")
READ = platform("platform:read")
WRITE = platform("platform:write")


class RotationStart(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whose organization keys are replaced: an organization's id, `platform`, or `all`."""

    scope: Annotated[str, Meta(min_length=1, max_length=200)] = EVERY_KEY


class ShownRotation(msgspec.Struct):
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

    rotations: list[ShownRotation]


class ShownMasterKey(msgspec.Struct):
    """A master key: who keeps it, by which name, and whether it is in force."""

    id: str
    provider: str
    name: str | None
    state: str
    created_at: datetime.datetime
    retired_at: datetime.datetime | None


class ShownKey(msgspec.Struct):
    """An organization key (none: the platform's), how many rows name it and how much it sealed."""

    id: str
    organization_id: str | None
    master_key_id: str
    rows: int
    seals: int
    is_worn: bool
    is_retired: bool
    opens: bool


class ShownFault(msgspec.Struct):
    """A row that did not open when the server last looked, and why."""

    id: str
    table: str
    name: str
    reason: str


class ShownVault(msgspec.Struct):
    """All keys, and what does not open."""

    master_keys: list[ShownMasterKey]
    keys: list[ShownKey]
    unreadable: list[ShownFault]


@OPERATIONS.get("/api/platform/vault", access=READ, summary="Read the state of the vault")
async def get_vault(ask: Ask[Nothing, Nothing]) -> ShownVault:
    """No key and no secret is in it. `headgate vault check` opens every seal anew."""
    desk = ask.services.key_desk
    status = await ask.read(desk.describe)
    faults = [
        ShownFault(each.credential_id, each.table, each.name, each.reason)
        for each in desk.list_faults()
    ]
    masters = [show_master_key(each) for each in status.master_keys]
    return ShownVault(masters, [show_key(each) for each in status.keys], faults)


@OPERATIONS.get("/api/platform/rotations", access=READ, summary="List rotations of keys")
async def list_rotations(ask: Ask[Nothing, Nothing]) -> RotationList:
    """With their progress."""
    status = await ask.read(ask.services.key_desk.describe)
    return RotationList([show_rotation(each) for each in status.rotations])


@OPERATIONS.post(
    "/api/platform/rotations",
    access=WRITE,
    status=202,
    summary="Replace organization keys",
    errors=(404, 409, 503),
    example={"scope": "all"},
)
async def start_rotation(ask: Ask[Nothing, RotationStart]) -> ShownRotation:
    """Every secret is sealed anew while calls go on. One that was cut off is carried on. The master
    key is replaced by the command `headgate vault rotate-master` alone."""
    desk, scope = ask.services.key_desk, ask.body.scope
    rotation = await ask.write(lambda connection: desk.begin(connection, scope, by=ask.actor))
    desk.carry_on(rotation, by=ask.actor)
    return show_rotation(rotation)


def show_rotation(rotation: Rotation) -> ShownRotation:
    """A rotation as the API writes it."""
    return ShownRotation(
        id=rotation.id,
        kind=rotation.kind.value,
        scope=rotation.scope,
        state=rotation.state.value,
        done=rotation.done,
        total=rotation.total,
        failed=rotation.failed,
        started_at=show_time(rotation.started_at),
        updated_at=show_time(rotation.updated_at),
        finished_at=show_time_if_any(rotation.finished_at),
    )


def show_master_key(record: MasterKeyRecord) -> ShownMasterKey:
    """A master key as the API writes it."""
    return ShownMasterKey(
        id=record.id,
        provider=record.provider,
        name=record.key_name,
        state=record.state.value,
        created_at=show_time(record.created_at),
        retired_at=show_time_if_any(record.retired_at),
    )


def show_key(status: KeyStatus) -> ShownKey:
    """An organization key as the API writes it."""
    return ShownKey(
        id=status.id,
        organization_id=status.organization_id,
        master_key_id=status.master_key_id,
        rows=status.rows,
        seals=status.seals,
        is_worn=status.is_worn,
        is_retired=status.is_retired,
        opens=status.opens,
    )
