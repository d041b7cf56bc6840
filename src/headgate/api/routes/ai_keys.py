"""API keys in the names of VM-X: the inference keys of a project, below `/api/api-key`."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from headgate.api.access import organization
from headgate.api.operation import WORKSPACE, Operations, RequestContext
from headgate.api.quotas import check_plan
from headgate.api.routes import keys
from headgate.api.routes.keys import find_authority
from headgate.api.schemas.ai_keys import (
    AiKeyCreate,
    AiKeyResponse,
    AiKeyUpdate,
    read_key,
    read_key_change,
    to_ai_key_response,
)
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.keys import read_fields, to_key_response
from headgate.api.schemas.pages import PageQuery
from headgate.api.vmx_workspace import find_environment
from headgate.keys.model import Key, KeyFilter, KeyKind, KeyNotFoundError, KeyRequest

OPERATIONS = Operations(
    "VM-X: API keys",
    "The inference keys of a project, with the addresses and the names of VM-X. The workspace is "
    "the organization, the environment the project.",
)
READ = organization("keys:read")
WRITE = organization("keys:write")
BASE = f"/api/api-key{WORKSPACE}"


@OPERATIONS.get(BASE, access=READ, summary="List API keys in names of VM-X")
async def list_ai_keys(context: RequestContext[PageQuery, Empty]) -> list[AiKeyResponse]:
    """Return the inference keys of the environment that are not revoked, newest first."""
    query = context.query

    def select(connection: sa.Connection) -> list[AiKeyResponse]:
        filters = KeyFilter(
            organization_id=context.organization_id,
            among=context.principal.projects,
            project_id=find_environment(context, connection).id,
            kind=KeyKind.LIVE,
            include_revoked=False,
        )
        page, _ = context.services.keys.list_page(
            connection, filters, limit=query.limit, offset=query.offset
        )
        return [respond(context, key) for key in page]

    return await context.read(select)


@OPERATIONS.post(
    BASE,
    access=WRITE,
    status=201,
    summary="Create an API key in names of VM-X",
    errors=(409,),
    example={"name": "Search", "enabled": True, "enforceCapacity": False},
)
async def create_ai_key(context: RequestContext[Empty, AiKeyCreate]) -> AiKeyResponse:
    """Create an inference key and return its token in `apiKeyValue`. The token is shown only in
    this answer. Without `resources` the key may call whatever its environment may."""

    def issue(connection: sa.Connection) -> AiKeyResponse:
        body = read_key(context.body, find_environment(context, connection).id)
        request = KeyRequest(
            organization_id=context.organization_id,
            project_id=body.project_id or "",
            kind=KeyKind.LIVE,
            **read_fields(msgspec.structs.asdict(body)),
        )
        check_plan(context, connection, "keys")
        authority = find_authority(context, connection)
        issued = context.services.keys.create(
            connection, request, by=context.actor, authority=authority
        )
        key = issued.key
        if context.body.enabled is False:
            key = context.services.keys.update(
                connection, key, {}, enabled=False, by=context.actor, authority=authority
            )
        own = to_key_response(key, context.services.clock.now())
        return to_ai_key_response(own, issued.token)

    return await context.create(issue)


@OPERATIONS.get(f"{BASE}/{{key_id}}", access=READ, summary="Read an API key in names of VM-X")
async def get_ai_key(context: RequestContext[Empty, Empty]) -> AiKeyResponse:
    """Return one API key, which may be revoked. Its token is never returned."""
    return await context.read(lambda connection: respond(context, find(context, connection)))


@OPERATIONS.put(
    f"{BASE}/{{key_id}}",
    access=WRITE,
    summary="Change an API key in names of VM-X",
    errors=(409,),
    example={"enabled": False},
)
async def update_ai_key(context: RequestContext[Empty, AiKeyUpdate]) -> AiKeyResponse:
    """Change the given fields; the change takes effect at once."""

    def change(connection: sa.Connection) -> AiKeyResponse:
        key = context.check_version(find(context, connection))
        given = msgspec.structs.asdict(read_key_change(context.body))
        changes = {name: value for name, value in given.items() if value is not UNSET}
        enabled: bool | None = changes.pop("enabled", None)
        key = context.services.keys.update(
            connection,
            key,
            read_fields(changes),
            enabled=enabled,
            by=context.actor,
            authority=find_authority(context, connection),
        )
        return respond(context, key)

    return await context.write(change)


@OPERATIONS.delete(
    f"{BASE}/{{key_id}}", access=WRITE, status=204, summary="Revoke an API key in names of VM-X"
)
async def delete_ai_key(context: RequestContext[Empty, Empty]) -> None:
    """Reject the key from now on. This cannot be undone."""

    def revoke(connection: sa.Connection) -> None:
        key = context.check_version(find(context, connection))
        context.services.keys.revoke(connection, key.id, by=context.actor)

    await context.write(revoke)


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> Key:
    """Return the key of the path, which belongs to its environment. Raise `KeyNotFoundError` and
    `AccountNotFoundError`."""
    environment = find_environment(context, connection)
    key = keys.find(context, connection)
    if key.project_id != environment.id or key.kind is not KeyKind.LIVE:
        raise KeyNotFoundError("There is no such key.")
    return key


def respond(context: RequestContext[Any, Any], key: Key) -> AiKeyResponse:
    return to_ai_key_response(to_key_response(key, context.services.clock.now()))
