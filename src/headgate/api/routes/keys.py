"""The keys of an organization: issued, limited, rotated, revoked."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from headgate.api.access import organization
from headgate.api.errors import InvalidFieldError
from headgate.api.key_shapes import (
    KeyChanges,
    KeyFields,
    KeyPage,
    KeyQuery,
    KeyRotation,
    ShownIssuedKey,
    ShownKey,
    read_fields,
    show_issued,
    show_key,
)
from headgate.api.operation import Ask, Operations
from headgate.api.shapes import Nothing
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
async def list_keys(ask: Ask[KeyQuery, Nothing]) -> KeyPage:
    """Also disabled, expired and revoked ones, unless `state` says otherwise; with
    `include_revoked=false` none that was revoked."""
    query, keys = ask.query, ask.services.keys
    wanted = KeyFilter(
        organization_id=ask.organization_id,
        among=ask.principal.projects,
        project_id=query.project_id,
        kind=query.kind,
        state=query.state,
        search=query.search,
        include_revoked=query.include_revoked,
    )
    page, total = await ask.read(
        lambda connection: keys.list_page(
            connection, wanted, limit=query.limit, offset=query.offset
        )
    )
    now = ask.services.clock.now()
    shown = [show_key(key, now) for key in page]
    return KeyPage(shown, total, keys.keys_max, query.limit, query.offset)


@OPERATIONS.post(
    "/api/api-keys",
    access=WRITE,
    status=201,
    summary="Issue a key",
    errors=(409,),
    example={"name": "Search service", "models": ["gpt-5*"], "requests_per_minute": 600},
)
async def issue_key(ask: Ask[Nothing, KeyFields]) -> ShownIssuedKey:
    """Its token is in `key` and is not shown again. A key issues only what it holds itself."""
    if ask.body.organization_id not in (UNSET, ask.organization_id):
        message = "The organization is that of the header X-Organization-ID."
        raise InvalidFieldError(message, ("body", "organization_id"))

    def issue(connection: sa.Connection) -> ShownIssuedKey:
        body = ask.body
        request = KeyRequest(
            organization_id=ask.organization_id,
            project_id=body.project_id or choose_project(ask, connection),
            kind=body.kind,
            **read_fields(msgspec.structs.asdict(body)),
        )
        issued = ask.services.keys.create(
            connection, request, by=ask.actor, authority=find_authority(ask, connection)
        )
        return show_issued(issued, ask.services.clock.now())

    return await ask.create(issue)


@OPERATIONS.get("/api/api-keys/{key_id}", access=READ, summary="Read a key")
async def get_key(ask: Ask[Nothing, Nothing]) -> ShownKey:
    """Also a revoked one."""
    key = await ask.read(lambda connection: find(ask, connection))
    return show_key(key, ask.services.clock.now())


@OPERATIONS.patch(
    "/api/api-keys/{key_id}",
    access=WRITE,
    summary="Change a key",
    errors=(409,),
    example={"enabled": False},
)
async def update_key(ask: Ask[Nothing, KeyChanges]) -> ShownKey:
    """In force at once. Nothing revives a key that is revoked or has expired, and a key cannot
    give another one more than it holds itself."""

    def change(connection: sa.Connection) -> Key:
        key = find(ask, connection)
        ask.check_match(key.version)
        given = msgspec.structs.asdict(ask.body)
        changes = {name: value for name, value in given.items() if value is not UNSET}
        enabled: bool | None = changes.pop("enabled", None)
        return ask.services.keys.update(
            connection,
            key,
            read_fields(changes),
            enabled=enabled,
            by=ask.actor,
            authority=find_authority(ask, connection),
        )

    key = await ask.write(change)
    return show_key(key, ask.services.clock.now())


@OPERATIONS.delete("/api/api-keys/{key_id}", access=WRITE, status=204, summary="Revoke a key")
async def revoke_key(ask: Ask[Nothing, Nothing]) -> None:
    """All its tokens are refused from now on, for good; it stays in the list."""

    def revoke(connection: sa.Connection) -> None:
        key = find(ask, connection)
        ask.check_match(key.version)
        ask.services.keys.revoke(connection, key.id, by=ask.actor)

    await ask.write(revoke)


@OPERATIONS.post(
    "/api/api-keys/{key_id}/rotate",
    access=WRITE,
    summary="Rotate a key",
    errors=(409,),
    example={"overlap_seconds": 86400},
    is_versioned=True,
)
async def rotate_key(ask: Ask[Nothing, KeyRotation]) -> ShownIssuedKey:
    """A new token of the same key, shown once. The present one goes on for the overlap, both with
    the same rates; one that was still good from a rotation before ends."""

    def rotate(connection: sa.Connection) -> ShownIssuedKey:
        key = find(ask, connection)
        ask.check_match(key.version)
        issued = ask.services.keys.rotate(
            connection,
            key,
            overlap_seconds=ask.body.overlap_seconds,
            by=ask.actor,
            authority=find_authority(ask, connection),
        )
        return show_issued(issued, ask.services.clock.now())

    return await ask.create(rotate)


@OPERATIONS.post(
    "/api/api-keys/{key_id}/revoke-previous",
    access=WRITE,
    summary="End an overlap at once",
    is_versioned=True,
)
async def revoke_previous_token(ask: Ask[Nothing, Nothing]) -> ShownKey:
    """Only the newest token is good from now on. Nothing changes where it is the only one."""

    def end(connection: sa.Connection) -> Key:
        key = find(ask, connection)
        ask.check_match(key.version)
        return ask.services.keys.end_overlap(connection, key, by=ask.actor)

    key = await ask.write(end)
    return show_key(key, ask.services.clock.now())


def find(ask: Ask[Any, Any], connection: sa.Connection) -> Key:
    """The key of the path. `KeyNotFoundError` for one that this caller may not know of."""
    key_id = ask.path["key_id"]
    if key_id.isprintable():
        key = ask.services.keys.get(connection, ask.organization_id, key_id)
        if is_visible_to(key, ask.principal.projects):
            return key
    raise KeyNotFoundError("There is no such key.")


def find_authority(ask: Ask[Any, Any], connection: sa.Connection) -> Authority:
    """What who asks may hand out: a key as it is stored in this very transaction."""
    if ask.principal.grant is None:
        return Authority(is_operator=ask.principal.is_operator)
    keys = ask.services.keys
    return keys.find_authority(connection, ask.organization_id, ask.principal.grant.key_id)


def choose_project(ask: Ask[Any, Any], connection: sa.Connection) -> str:
    """The project of a key that names none. Raises `InvalidKeyRequestError` where there is none."""
    if ask.principal.grant is not None:
        return ask.principal.grant.project_id
    accounts = ask.services.accounts
    projects, _ = accounts.list_projects(connection, ask.organization_id, limit=1)
    if not projects:
        message = "The organization has no project; create one first."
        raise InvalidKeyRequestError(message, param="project_id")
    return projects[0].id
