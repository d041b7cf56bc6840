"""Connections: provider credentials with allowed models, capacity, and an API key that can be
replaced."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from headgate.api.access import organization
from headgate.api.errors import rename_params
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.connections import (
    ConnectionConfig,
    ConnectionCreate,
    ConnectionPage,
    ConnectionResponse,
    ConnectionUpdate,
    to_connection_response,
)
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.pages import PageQuery
from headgate.credentials.model.credential import (
    CredentialChange,
    CredentialRecord,
    CredentialRequest,
)
from headgate.credentials.service import CredentialFilter
from headgate.kit.errors import HeadgateError, Kind

OPERATIONS = Operations(
    "Connections", "Credentials with the models and the capacity that they are meant for."
)
READ = organization("credentials:read")
WRITE = organization("credentials:write")
STARS = "****"
PARAMS = {
    "api_key": "config.api_key",
    "base_url": "config.base_url",
    "provider_organization": "config.organization",
    "integration": "provider",
}
EXAMPLE_KEY = "sk-proj-EXAMPLE-0123456789abcdef"


class InvalidConnectionConfigError(HeadgateError):
    """The connection's configuration is incomplete, or would send its secret elsewhere.

    Send the missing field. A new `base_url` needs a new `api_key`.
    """

    kind = Kind.INVALID
    code = "AI_CONNECTION_CONFIG_INVALID"


@OPERATIONS.get("/api/connections", access=READ, summary="List connections")
async def list_connections(context: RequestContext[PageQuery, Empty]) -> ConnectionPage:
    """Return the credentials of the organization as connections, newest first."""
    query, services = context.query, context.services

    def select(connection: sa.Connection) -> ConnectionPage:
        records, counts = services.credentials.list_page(
            connection,
            CredentialFilter(context.organization_id),
            limit=query.limit,
            offset=query.offset,
        )
        responses = to_connection_responses(context, connection, records)
        return ConnectionPage(responses, **query.position(sum(counts.values())))

    return await context.read(select)


@OPERATIONS.post(
    "/api/connections",
    access=WRITE,
    status=201,
    summary="Add a connection",
    example={
        "name": "Search team",
        "provider": "openai",
        "allowed_models": ["gpt-5.4-mini"],
        "config": {"api_key": EXAMPLE_KEY},
    },
)
async def create_connection(context: RequestContext[Empty, ConnectionCreate]) -> ConnectionResponse:
    """Store the API key of a model provider, encrypted, with the models and the capacity that it is
    meant for. A connection is a credential, too, and is listed with the credentials."""
    context.principal.check_organization_wide()
    body = context.body
    request = make_request(context.organization_id, body)

    def add(connection: sa.Connection) -> ConnectionResponse:
        with rename_params(PARAMS):
            record = context.services.credentials.add(connection, request, by=context.actor)
        return to_connection_response(record, {})

    return await context.create(add)


@OPERATIONS.get("/api/connections/{credential_id}", access=READ, summary="Read a connection")
async def get_connection(context: RequestContext[Empty, Empty]) -> ConnectionResponse:
    """Return one connection with its API key masked."""
    return await context.read(
        lambda connection: to_connection_responses(
            context, connection, [find(context, connection)]
        )[0]
    )


@OPERATIONS.patch(
    "/api/connections/{credential_id}",
    access=WRITE,
    summary="Change a connection",
    example={"allowed_models": ["gpt-5.4*"], "config": {"api_key": STARS}},
)
async def update_connection(context: RequestContext[Empty, ConnectionUpdate]) -> ConnectionResponse:
    """Change the given fields. The stored API key is kept if `config.api_key` is missing or starts
    with `****`. Changing `config.base_url` requires a new `config.api_key`, because a stored key
    is sent only to the address that it was stored with."""
    context.principal.check_organization_wide()

    def update(connection: sa.Connection) -> ConnectionResponse:
        record = context.check_version(find(context, connection))
        with rename_params(PARAMS):
            record = change(context, connection, record, context.body)
        return to_connection_responses(context, connection, [record])[0]

    return await context.write(update)


@OPERATIONS.delete(
    "/api/connections/{credential_id}", access=WRITE, status=204, summary="Delete a connection"
)
async def delete_connection(context: RequestContext[Empty, Empty]) -> None:
    """Delete a connection and its API key for good, and the resources that use it."""
    context.principal.check_organization_wide()

    def remove(connection: sa.Connection) -> None:
        record = context.check_version(find(context, connection))
        context.services.resources.delete_using(
            connection, context.organization_id, record.id, by=context.actor
        )
        context.services.credentials.remove(connection, record, by=context.actor)

    await context.write(remove)


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> CredentialRecord:
    """Return the connection of the path. Raise `CredentialNotFoundError`."""
    return context.services.credentials.get(
        connection, context.organization_id, context.path["credential_id"]
    )


def change(
    context: RequestContext[Any, Any],
    connection: sa.Connection,
    record: CredentialRecord,
    body: ConnectionUpdate,
) -> CredentialRecord:
    """Apply a body to a credential. Raise `InvalidConnectionConfigError` and the errors of
    credentials."""
    service = context.services.credentials
    config = ConnectionConfig() if body.config is UNSET else body.config
    secret = config.api_key
    if secret == "":
        raise InvalidConnectionConfigError("The configuration needs the api_key of the provider.")
    base_url = record.base_url if config.base_url is None else config.base_url.rstrip("/")
    organization = config.organization
    changes = CredentialChange(
        name=body.name,
        description=body.description,
        allowed_models=body.allowed_models,
        capacity=UNSET if body.capacity is UNSET else msgspec.to_builtins(body.capacity),
        stream_usage=body.stream_usage,
        first_byte_seconds=body.first_byte_seconds,
        idle_seconds=body.idle_seconds,
        total_seconds=body.total_seconds,
        provider_organization=UNSET if organization is None else organization,
    )
    if secret is None or is_mask(secret, record.hint):
        if base_url != record.base_url:
            raise InvalidConnectionConfigError(
                "A stored secret is sent only to the address that it was stored with. To change "
                "the base_url, send the api_key as well."
            )
    else:
        new_config = ConnectionConfig(base_url=base_url, organization=organization)
        request = write_request(context.organization_id, record.integration, new_config, secret)
        record = service.replace_secret(connection, record, request, by=context.actor)
    return service.update(connection, record, changes, by=context.actor)


def make_request(organization_id: str, body: ConnectionCreate) -> CredentialRequest:
    """Return what stores a new connection. Raise `InvalidConnectionConfigError`."""
    secret = body.config.api_key
    if not secret or is_mask(secret, ""):
        raise InvalidConnectionConfigError("The configuration needs the api_key of the provider.")
    return msgspec.structs.replace(
        write_request(organization_id, body.provider, body.config, secret),
        name=body.name,
        description=body.description,
        allowed_models=body.allowed_models,
        capacity=msgspec.to_builtins(body.capacity),
        stream_usage=body.stream_usage,
        first_byte_seconds=body.first_byte_seconds,
        idle_seconds=body.idle_seconds,
        total_seconds=body.total_seconds,
    )


def is_mask(text: str, hint: str) -> bool:
    """Tell whether an API key in a body is only the mask of the stored one."""
    return text.startswith(STARS) or (bool(hint) and text == hint)


def write_request(
    organization_id: str, provider: str, config: ConnectionConfig, secret: str
) -> CredentialRequest:
    return CredentialRequest(
        organization_id=organization_id,
        integration=provider,
        secret=secret,
        base_url=config.base_url,
        provider_organization=config.organization,
    )


def to_connection_responses(
    context: RequestContext[Any, Any],
    connection: sa.Connection,
    records: Sequence[CredentialRecord],
) -> list[ConnectionResponse]:
    """Return connections with the capacity that their providers announced."""
    ids = [record.id for record in records]
    discovered = context.services.capacity_tracker.list(connection, ids)
    return [to_connection_response(record, discovered.get(record.id, {})) for record in records]
