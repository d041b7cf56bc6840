"""The keys of an organization: issued, limited, rotated, revoked."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from headgate.api.access import organization
from headgate.api.errors import InvalidFieldError
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.keys import (
    IssuedKeyResponse,
    KeyCreate,
    KeyPage,
    KeyQuery,
    KeyResponse,
    KeyRotationRequest,
    KeyUpdate,
    read_fields,
    to_issued_key_response,
    to_key_response,
)
from headgate.keys.model import (
    InvalidKeyRequestError,
    Key,
    KeyFilter,
    KeyNotFoundError,
    KeyRequest,
    is_visible_to,
)
from headgate.keys.service import Authority

OPERATIONS = Operations("API keys", "Keys that open the gate: what each may do, and until when.")
READ = organization("keys:read")
WRITE = organization("keys:write")


@OPERATIONS.get("/api/api-keys", access=READ, summary="List keys")
async def list_keys(context: RequestContext[KeyQuery, Empty]) -> KeyPage:
    """Also disabled, expired and revoked ones, unless `state` says otherwise; with
    `include_revoked=false` none that was revoked."""
    query, keys = context.query, context.services.keys
    wanted = KeyFilter(
        organization_id=context.organization_id,
        among=context.principal.projects,
        project_id=query.project_id,
        kind=query.kind,
        state=query.state,
        search=query.search,
        include_revoked=query.include_revoked,
    )
    page, total = await context.read(
        lambda connection: keys.list_page(
            connection, wanted, limit=query.limit, offset=query.offset
        )
    )
    now = context.services.clock.now()
    shown = [to_key_response(key, now) for key in page]
    return KeyPage(shown, total, keys.keys_max, query.limit, query.offset)


@OPERATIONS.post(
    "/api/api-keys",
    access=WRITE,
    status=201,
    summary="Issue a key",
    errors=(409,),
    example={"name": "Search service", "models": ["gpt-5*"], "requests_per_minute": 600},
)
async def issue_key(context: RequestContext[Empty, KeyCreate]) -> IssuedKeyResponse:
    """Its token is in `key` and is not shown again. A key issues only what it holds itself."""
    if context.body.organization_id not in (UNSET, context.organization_id):
        message = "The organization is that of the header X-Organization-ID."
        raise InvalidFieldError(message, ("body", "organization_id"))

    def issue(connection: sa.Connection) -> IssuedKeyResponse:
        body = context.body
        request = KeyRequest(
            organization_id=context.organization_id,
            project_id=body.project_id or choose_project(context, connection),
            kind=body.kind,
            **read_fields(msgspec.structs.asdict(body)),
        )
        issued = context.services.keys.create(
            connection, request, by=context.actor, authority=find_authority(context, connection)
        )
        return to_issued_key_response(issued, context.services.clock.now())

    return await context.create(issue)


@OPERATIONS.get("/api/api-keys/{key_id}", access=READ, summary="Read a key")
async def get_key(context: RequestContext[Empty, Empty]) -> KeyResponse:
    """Also a revoked one."""
    key = await context.read(lambda connection: find(context, connection))
    return to_key_response(key, context.services.clock.now())


@OPERATIONS.patch(
    "/api/api-keys/{key_id}",
    access=WRITE,
    summary="Change a key",
    errors=(409,),
    example={"enabled": False},
)
async def update_key(context: RequestContext[Empty, KeyUpdate]) -> KeyResponse:
    """In force at once. Nothing revives a key that is revoked or has expired, and a key cannot
    give another one more than it holds itself."""

    def change(connection: sa.Connection) -> Key:
        key = find(context, connection)
        context.check_match(key.version)
        given = msgspec.structs.asdict(context.body)
        changes = {name: value for name, value in given.items() if value is not UNSET}
        enabled: bool | None = changes.pop("enabled", None)
        return context.services.keys.update(
            connection,
            key,
            read_fields(changes),
            enabled=enabled,
            by=context.actor,
            authority=find_authority(context, connection),
        )

    key = await context.write(change)
    return to_key_response(key, context.services.clock.now())


@OPERATIONS.delete("/api/api-keys/{key_id}", access=WRITE, status=204, summary="Revoke a key")
async def revoke_key(context: RequestContext[Empty, Empty]) -> None:
    """All its tokens are refused from now on, for good; it stays in the list."""

    def revoke(connection: sa.Connection) -> None:
        key = find(context, connection)
        context.check_match(key.version)
        context.services.keys.revoke(connection, key.id, by=context.actor)

    await context.write(revoke)


@OPERATIONS.post(
    "/api/api-keys/{key_id}/rotate",
    access=WRITE,
    summary="Rotate a key",
    errors=(409,),
    example={"overlap_seconds": 86400},
    is_versioned=True,
)
async def rotate_key(context: RequestContext[Empty, KeyRotationRequest]) -> IssuedKeyResponse:
    """A new token of the same key, shown once. The present one goes on for the overlap, both with
    the same rates; one that was still good from a rotation before ends."""

    def rotate(connection: sa.Connection) -> IssuedKeyResponse:
        key = find(context, connection)
        context.check_match(key.version)
        issued = context.services.keys.rotate(
            connection,
            key,
            overlap_seconds=context.body.overlap_seconds,
            by=context.actor,
            authority=find_authority(context, connection),
        )
        return to_issued_key_response(issued, context.services.clock.now())

    return await context.create(rotate)


@OPERATIONS.post(
    "/api/api-keys/{key_id}/revoke-previous",
    access=WRITE,
    summary="End an overlap at once",
    is_versioned=True,
)
async def revoke_previous_token(context: RequestContext[Empty, Empty]) -> KeyResponse:
    """Only the newest token is good from now on. Nothing changes where it is the only one."""

    def end(connection: sa.Connection) -> Key:
        key = find(context, connection)
        context.check_match(key.version)
        return context.services.keys.end_overlap(connection, key, by=context.actor)

    key = await context.write(end)
    return to_key_response(key, context.services.clock.now())


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> Key:
    """The key of the path. `KeyNotFoundError` for one that this caller may not know of."""
    key_id = context.path["key_id"]
    if key_id.isprintable():
        key = context.services.keys.get(connection, context.organization_id, key_id)
        if is_visible_to(key, context.principal.projects):
            return key
    raise KeyNotFoundError("There is no such key.")


def find_authority(context: RequestContext[Any, Any], connection: sa.Connection) -> Authority:
    """What who asks may hand out: a key as it is stored in this very transaction."""
    if context.principal.grant is None:
        return Authority(is_operator=context.principal.is_operator)
    keys = context.services.keys
    return keys.find_authority(connection, context.organization_id, context.principal.grant.key_id)


def choose_project(context: RequestContext[Any, Any], connection: sa.Connection) -> str:
    """The project of a key that names none. Raises `InvalidKeyRequestError` where there is none."""
    if context.principal.grant is not None:
        return context.principal.grant.project_id
    accounts = context.services.accounts
    projects, _ = accounts.list_projects(connection, context.organization_id, limit=1)
    if not projects:
        message = "The organization has no project; create one first."
        raise InvalidKeyRequestError(message, param="project_id")
    return projects[0].id
