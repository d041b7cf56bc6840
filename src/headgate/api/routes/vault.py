"""The encryption keys of the vault, and their rotation."""

from __future__ import annotations

from headgate.api.access import platform
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.vault import (
    RotationList,
    RotationResponse,
    UnreadableRowResponse,
    VaultResponse,
    VaultRotationRequest,
    to_master_key_response,
    to_organization_key_response,
    to_rotation_response,
)

OPERATIONS = Operations(
    "Vault",
    "The keys that encrypt all stored secrets, and their rotation; only "
    "for the operator of the server.",
)
READ = platform("platform:read")
WRITE = platform("platform:write")


@OPERATIONS.get("/api/platform/vault", access=READ, summary="Read the state of the vault")
async def get_vault(context: RequestContext[Empty, Empty]) -> VaultResponse:
    """Return the encryption keys and the rows that could not be decrypted when the server last read
    them. Keys and secrets themselves are never returned. The command `headgate vault check`
    decrypts every row again."""
    services = context.services
    status = await context.read(services.rotation_runner.describe)
    unreadable = [
        UnreadableRowResponse(each.credential_id, each.table, each.name, each.reason)
        for each in services.credential_resolver.unreadable_rows
    ]
    masters = [to_master_key_response(each) for each in status.master_keys]
    return VaultResponse(
        masters, [to_organization_key_response(each) for each in status.keys], unreadable
    )


@OPERATIONS.get("/api/platform/rotations", access=READ, summary="List key rotations")
async def list_rotations(context: RequestContext[Empty, Empty]) -> RotationList:
    """Return the newest rotations of organization keys with their progress, newest first, at most
    100."""
    status = await context.read(context.services.rotation_runner.describe)
    return RotationList([to_rotation_response(each) for each in status.rotations])


@OPERATIONS.post(
    "/api/platform/rotations",
    access=WRITE,
    status=202,
    summary="Rotate organization keys",
    errors=(404, 409, 503),
    example={"scope": "all"},
)
async def start_rotation(context: RequestContext[Empty, VaultRotationRequest]) -> RotationResponse:
    """Replace organization keys and encrypt their secrets again in the background, without
    interrupting calls. A rotation that was interrupted is continued. The master key can be
    replaced only by the command `headgate vault rotate-master`."""
    runner, scope = context.services.rotation_runner, context.body.scope
    rotation = await context.write(
        lambda connection: runner.begin(connection, scope, by=context.actor)
    )
    runner.start(rotation, by=context.actor)
    return to_rotation_response(rotation)
