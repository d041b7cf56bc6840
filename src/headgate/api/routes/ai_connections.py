"""Connections in the names of VM-X: the same credentials, below `/api/ai-connection`."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET

from headgate.api.access import organization
from headgate.api.errors import InvalidFieldError, rename_params
from headgate.api.operation import WORKSPACE, Operations, RequestContext
from headgate.api.routes.connections import (
    PARAMS,
    InvalidConnectionConfigError,
    change,
    find,
    make_request,
    to_connection_responses,
)
from headgate.api.schemas.ai_connections import (
    AiConnectionCreate,
    AiConnectionResponse,
    AiConnectionUpdate,
    read_connection,
    read_connection_change,
    to_ai_connection_response,
)
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.pages import PageQuery
from headgate.api.vmx_workspace import find_environment
from headgate.credentials.model.credential import CredentialRecord
from headgate.credentials.service import CredentialFilter

OPERATIONS = Operations(
    "VM-X: connections",
    "The connections of an organization, with the addresses and the names of VM-X. The workspace "
    "is the organization, the environment one of its projects.",
)
READ = organization("credentials:read")
WRITE = organization("credentials:write")
BASE = f"/api/ai-connection{WORKSPACE}"
EXAMPLE_KEY = "sk-proj-EXAMPLE-0123456789abcdef"


@OPERATIONS.get(BASE, access=READ, summary="List connections in names of VM-X")
async def list_ai_connections(
    context: RequestContext[PageQuery, Empty],
) -> list[AiConnectionResponse]:
    """Return the connections of the workspace, newest first. All its environments share them."""
    query, services = context.query, context.services

    def select(connection: sa.Connection) -> list[AiConnectionResponse]:
        environment = find_environment(context, connection)
        records, _ = services.credentials.list_page(
            connection,
            CredentialFilter(context.organization_id),
            limit=query.limit,
            offset=query.offset,
        )
        return [
            to_ai_connection_response(own, context.organization_id, environment.id)
            for own in to_connection_responses(context, connection, records)
        ]

    return await context.read(select)


@OPERATIONS.post(
    BASE,
    access=WRITE,
    status=201,
    summary="Add a connection in names of VM-X",
    example={"name": "openai", "provider": "openai", "config": {"apiKey": EXAMPLE_KEY}},
)
async def create_ai_connection(
    context: RequestContext[Empty, AiConnectionCreate],
) -> AiConnectionResponse:
    """Store the API key of a model provider, encrypted, with the models and the capacity that it is
    meant for."""
    context.principal.check_organization_wide()
    request = make_request(context.organization_id, read_connection(context.body))

    def add(connection: sa.Connection) -> AiConnectionResponse:
        find_environment(context, connection)
        with rename_params(PARAMS):
            record = context.services.credentials.add(connection, request, by=context.actor)
        return respond(context, connection, record)

    return await context.create(add)


@OPERATIONS.get(
    f"{BASE}/{{credential_id}}", access=READ, summary="Read a connection in names of VM-X"
)
async def get_ai_connection(context: RequestContext[Empty, Empty]) -> AiConnectionResponse:
    """Return one connection with its API key masked."""
    return await context.read(
        lambda connection: respond(context, connection, find(context, connection))
    )


@OPERATIONS.put(
    f"{BASE}/{{credential_id}}",
    access=WRITE,
    summary="Change a connection in names of VM-X",
    example={"allowedModels": ["gpt-5.4*"], "config": {"apiKey": "********"}},
)
async def update_ai_connection(
    context: RequestContext[Empty, AiConnectionUpdate],
) -> AiConnectionResponse:
    """Change the given fields. The stored API key is kept if `config.apiKey` starts with `****`.
    Changing `config.baseUrl` requires a new `config.apiKey`, because a stored key is sent only to
    the address that it was stored with."""
    context.principal.check_organization_wide()
    body = context.body
    if isinstance(body.config, msgspec.Struct) and body.config.api_key is None:
        raise InvalidConnectionConfigError("The configuration needs the apiKey of the provider.")

    def update(connection: sa.Connection) -> AiConnectionResponse:
        record = context.check_version(find(context, connection))
        find_environment(context, connection)
        if body.provider not in (UNSET, None, record.integration):
            message = f"The connection is one to {record.integration}, which cannot be changed."
            raise InvalidFieldError(message, ("body", "provider"))
        with rename_params(PARAMS):
            record = change(context, connection, record, read_connection_change(body))
        return respond(context, connection, record)

    return await context.write(update)


@OPERATIONS.delete(
    f"{BASE}/{{credential_id}}",
    access=WRITE,
    status=204,
    summary="Delete a connection in names of VM-X",
)
async def delete_ai_connection(context: RequestContext[Empty, Empty]) -> None:
    """Delete a connection and its API key for good, and the resources that use it."""
    context.principal.check_organization_wide()

    def remove(connection: sa.Connection) -> None:
        record = context.check_version(find(context, connection))
        find_environment(context, connection)
        context.services.resources.delete_using(
            connection, context.organization_id, record.id, by=context.actor
        )
        context.services.credentials.remove(connection, record, by=context.actor)

    await context.write(remove)


def respond(
    context: RequestContext[Any, Any], connection: sa.Connection, record: CredentialRecord
) -> AiConnectionResponse:
    """Return a connection with the capacity that its provider announced. Raise
    `AccountNotFoundError` for an unknown environment."""
    environment = find_environment(context, connection)
    [own] = to_connection_responses(context, connection, [record])
    return to_ai_connection_response(own, context.organization_id, environment.id)
