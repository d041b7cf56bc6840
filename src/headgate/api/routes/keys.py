"""The API keys of an organization."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, UnsetType

from headgate.api.access import organization
from headgate.api.errors import InvalidFieldError
from headgate.api.operation import Operations, RequestContext
from headgate.api.quotas import check_plan
from headgate.api.schemas.fields import Empty, to_datetime, to_optional_datetime
from headgate.api.schemas.keys import (
    IssuedKeyResponse,
    IssuedSigningSecret,
    KeyCreate,
    KeyPage,
    KeyQuery,
    KeyResponse,
    KeyRotationRequest,
    KeyUpdate,
    SigningSecretRequest,
    SigningSecretResponse,
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

OPERATIONS = Operations(
    "API keys",
    "Tokens for calling models (`hg_live_...`) and for this API "
    "(`hg_admin_...`), with their permissions and limits.",
)
READ = organization("keys:read")
WRITE = organization("keys:write")


@OPERATIONS.get("/api/api-keys", access=READ, summary="List API keys")
async def list_keys(context: RequestContext[KeyQuery, Empty]) -> KeyPage:
    """Return the API keys of the organization, newest first. Disabled, expired and revoked keys are
    included unless `state` or `include_revoked=false` excludes them."""
    query, keys = context.query, context.services.keys
    filters = KeyFilter(
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
            connection, filters, limit=query.limit, offset=query.offset
        )
    )
    now = context.services.clock.now()
    responses = [to_key_response(key, now) for key in page]
    return KeyPage(responses, total, keys.keys_max, query.limit, query.offset)


@OPERATIONS.post(
    "/api/api-keys",
    access=WRITE,
    status=201,
    summary="Create an API key",
    errors=(409,),
    example={"name": "Search service", "models": ["gpt-5*"], "requests_per_minute": 600},
)
async def issue_key(context: RequestContext[Empty, KeyCreate]) -> IssuedKeyResponse:
    """Create an API key and return its token in `key`. The token is shown only in this answer. A
    management key can grant only what it is allowed itself."""
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
        check_plan(context, connection, "keys")
        issued = context.services.keys.create(
            connection, request, by=context.actor, authority=find_authority(context, connection)
        )
        secret: str | UnsetType = UNSET
        if issued.key.requires_signature:
            secret = context.services.signing_secrets.issue(
                connection,
                issued.key,
                by=context.actor,
                authority=find_authority(context, connection),
            )
        now = context.services.clock.now()
        return to_issued_key_response(issued, now, signing_secret=secret)

    return await context.create(issue)


@OPERATIONS.get("/api/api-keys/{key_id}", access=READ, summary="Read an API key")
async def get_key(context: RequestContext[Empty, Empty]) -> KeyResponse:
    """Return one API key, which may be revoked. Its token is never returned."""
    key = await context.read(lambda connection: find(context, connection))
    return to_key_response(key, context.services.clock.now())


@OPERATIONS.patch(
    "/api/api-keys/{key_id}",
    access=WRITE,
    summary="Change an API key",
    errors=(409,),
    example={"enabled": False},
)
async def update_key(context: RequestContext[Empty, KeyUpdate]) -> KeyResponse:
    """Change the given fields; the change takes effect at once. A revoked or expired key cannot be
    made active again, and a management key cannot grant more than it is allowed itself."""

    def change(connection: sa.Connection) -> Key:
        key = context.check_version(find(context, connection))
        given = msgspec.structs.asdict(context.body)
        changes = {name: value for name, value in given.items() if value is not UNSET}
        if changes.get("requires_signature"):
            context.services.signing_secrets.check_usable(connection, key)
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


@OPERATIONS.delete("/api/api-keys/{key_id}", access=WRITE, status=204, summary="Revoke an API key")
async def revoke_key(context: RequestContext[Empty, Empty]) -> None:
    """Reject all tokens of the key from now on. This cannot be undone. The key stays in the list
    with the state `revoked`."""

    def revoke(connection: sa.Connection) -> None:
        key = context.check_version(find(context, connection))
        context.services.keys.revoke(connection, key.id, by=context.actor)

    await context.write(revoke)


@OPERATIONS.post(
    "/api/api-keys/{key_id}/rotate",
    access=WRITE,
    summary="Rotate an API key",
    errors=(409,),
    example={"overlap_seconds": 86400},
    is_versioned=True,
)
async def rotate_key(context: RequestContext[Empty, KeyRotationRequest]) -> IssuedKeyResponse:
    """Create a new token for the key and return it in `key`; it is shown only in this answer. The
    current token stays valid for `overlap_seconds`, and both tokens share the rate limits of the
    key. A token that was still valid from an earlier rotation ends."""

    def rotate(connection: sa.Connection) -> IssuedKeyResponse:
        key = context.check_version(find(context, connection))
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
    summary="Revoke the previous token of an API key",
    is_versioned=True,
)
async def revoke_previous_token(context: RequestContext[Empty, Empty]) -> KeyResponse:
    """End the overlap of a rotation at once, so that only the newest token is valid. Nothing
    changes if there is no previous token."""

    def end(connection: sa.Connection) -> Key:
        key = context.check_version(find(context, connection))
        return context.services.keys.end_overlap(connection, key, by=context.actor)

    key = await context.write(end)
    return to_key_response(key, context.services.clock.now())


@OPERATIONS.get(
    "/api/api-keys/{key_id}/signing-secret", access=READ, summary="Read the signing secret's state"
)
async def get_signing_secret(context: RequestContext[Empty, Empty]) -> SigningSecretResponse:
    """Return since when the key has its signing secret. The secret is never returned. A key without
    one gives 404."""

    def read(connection: sa.Connection) -> SigningSecretResponse:
        key = find(context, connection)
        state = context.services.signing_secrets.read(connection, key)
        return SigningSecretResponse(
            key.id, to_datetime(state.created_at), to_optional_datetime(state.previous_expires_at)
        )

    return await context.read(read)


@OPERATIONS.post(
    "/api/api-keys/{key_id}/signing-secret",
    access=WRITE,
    summary="Create or rotate the signing secret",
    errors=(409,),
    example={"overlap_seconds": 86400},
    is_versioned=True,
)
async def issue_signing_secret(
    context: RequestContext[Empty, SigningSecretRequest],
) -> IssuedSigningSecret:
    """Create a secret with which requests of this key are signed, and return it in
    `signing_secret`; it is shown only in this answer. The current secret stays valid for
    `overlap_seconds`, an older one ends."""

    def issue(connection: sa.Connection) -> IssuedSigningSecret:
        key = context.check_version(find(context, connection))
        service = context.services.signing_secrets
        secret = service.issue(
            connection,
            key,
            overlap_seconds=context.body.overlap_seconds,
            by=context.actor,
            authority=find_authority(context, connection),
        )
        state = service.read(connection, key)
        return IssuedSigningSecret(
            key.id,
            secret,
            to_datetime(state.created_at),
            to_optional_datetime(state.previous_expires_at),
        )

    return await context.create(issue)


@OPERATIONS.delete(
    "/api/api-keys/{key_id}/signing-secret",
    access=WRITE,
    status=204,
    summary="Delete the signing secret",
    errors=(409,),
    is_versioned=True,
)
async def delete_signing_secret(context: RequestContext[Empty, Empty]) -> None:
    """Accept no signatures of this key any more. A key that requires signatures keeps its secret
    (409)."""

    def delete(connection: sa.Connection) -> None:
        key = context.check_version(find(context, connection))
        context.services.signing_secrets.delete(connection, key, by=context.actor)

    await context.write(delete)


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> Key:
    """Return the key of the path. Raise `ApiKeyNotFoundError` if the principal may not see it."""
    key_id = context.path["key_id"]
    if key_id.isprintable():
        key = context.services.keys.get(connection, context.organization_id, key_id)
        if is_visible_to(key, context.principal.projects):
            return key
    raise KeyNotFoundError("There is no such key.")


def find_authority(context: RequestContext[Any, Any], connection: sa.Connection) -> Authority:
    """Return what the principal may grant: that of a key as it is stored in this transaction."""
    if context.principal.grant is None:
        return Authority(is_operator=context.principal.is_operator)
    keys = context.services.keys
    return keys.find_authority(connection, context.organization_id, context.principal.grant.key_id)


def choose_project(context: RequestContext[Any, Any], connection: sa.Connection) -> str:
    """Return the project of a key that names none. Raise `InvalidKeyRequestError` if there is
    none."""
    if context.principal.grant is not None:
        return context.principal.grant.project_id
    accounts = context.services.accounts
    projects, _ = accounts.list_projects(connection, context.organization_id, limit=1)
    if not projects:
        message = "The organization has no project; create one first."
        raise InvalidKeyRequestError(message, param="project_id")
    return projects[0].id
