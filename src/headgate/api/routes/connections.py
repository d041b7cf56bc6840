"""Connections: credentials as system 002 knows them, with a secret that can be renewed."""

from __future__ import annotations

import datetime
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Meta, UnsetType

from headgate.api.access import organization
from headgate.api.credential_shapes import FirstByteSeconds, IdleSeconds, TotalSeconds, Url
from headgate.api.errors import rename_params
from headgate.api.operation import Operations, RequestContext
from headgate.api.pages import PageQuery
from headgate.api.shapes import Empty, Name, to_datetime, to_optional_datetime
from headgate.credentials.model.capacity import Capacity
from headgate.credentials.model.credential import (
    CredentialChange,
    CredentialRecord,
    CredentialRequest,
)
from headgate.credentials.model.secret import SECRET_CHARACTERS_MAX
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

Model = Annotated[
    str, Meta(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$", examples=["gpt-5.4*"])
]
Models = Annotated[
    list[Model], Meta(max_length=200, description="Models, or patterns; none at all allows all.")
]
StreamUsage = Annotated[
    Literal["ask", "never"],
    Meta(
        description="Whether the provider is asked for the usage of a stream whose client did not "
        "ask for it. With `never` such a call leaves a receipt without tokens and price."
    ),
]
Limit = Annotated[int, Meta(ge=0, le=2**53 - 1)]
Description = Annotated[str, Meta(max_length=1000, pattern=r"^[^\u0000]*$")]


class InvalidConnectionConfigError(HeadgateError):
    """The configuration of a connection lacks something, or would let a secret go astray."""

    kind = Kind.INVALID
    code = "AI_CONNECTION_CONFIG_INVALID"


class CapacityEntry(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How much may be used in a period, in all or for each value of a dimension."""

    period: Literal["minute", "hour", "day", "week", "month", "lifetime"]
    requests: Limit | None = None
    tokens: Limit | None = None
    enabled: bool = True
    dimension: Literal["source-ip", "metadata"] | None = None
    dimension_field: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


CapacityTracker = Annotated[list[CapacityEntry], Meta(max_length=50)]


class ConnectionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How the provider is reached. A key of asterisks, or the mask that was shown, keeps the stored
    one."""

    api_key: Annotated[str, Meta(max_length=SECRET_CHARACTERS_MAX)] | None = None
    base_url: Url | None = None
    organization: Annotated[str, Meta(min_length=1, max_length=200)] | None = None

    def __repr__(self) -> str:
        return "ConnectionConfig()"


class ConnectionCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new connection."""

    name: Name
    config: ConnectionConfig
    provider: Annotated[str, Meta(min_length=1, max_length=64)] = "openai"
    description: Description | None = None
    allowed_models: Models = []
    capacity: CapacityTracker = []
    stream_usage: StreamUsage = "ask"
    first_byte_seconds: FirstByteSeconds | None = None
    idle_seconds: IdleSeconds | None = None
    total_seconds: TotalSeconds | None = None


class ConnectionUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What of a connection shall be otherwise; what is left out stays. Of `config` too: but with
    another `base_url` comes the secret, anew."""

    name: Name | UnsetType = UNSET
    config: ConnectionConfig | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    allowed_models: Models | UnsetType = UNSET
    capacity: CapacityTracker | UnsetType = UNSET
    stream_usage: StreamUsage | UnsetType = UNSET
    first_byte_seconds: FirstByteSeconds | UnsetType | None = UNSET
    idle_seconds: IdleSeconds | UnsetType | None = UNSET
    total_seconds: TotalSeconds | UnsetType | None = UNSET


class ConnectionConfigResponse(msgspec.Struct):
    """How the provider is reached, with the secret's mask."""

    api_key: str
    base_url: str
    organization: str | None


class DiscoveredCapacityResponse(msgspec.Struct):
    """What the provider said of a model: so much a minute."""

    requests: int | None
    tokens: int | None
    observed_at: datetime.datetime


class ConnectionResponse(msgspec.Struct, kw_only=True):
    """A connection. `discovered_capacity` is what the provider said in the last 7 days, by
    model."""

    id: str
    name: str
    description: str | None
    provider: str
    allowed_models: list[str]
    capacity: list[CapacityEntry]
    stream_usage: str
    first_byte_seconds: float | None
    idle_seconds: float | None
    total_seconds: float | None
    config: ConnectionConfigResponse
    discovered_capacity: dict[str, DiscoveredCapacityResponse]
    is_default: bool
    created_at: datetime.datetime
    updated_at: datetime.datetime
    last_used_at: datetime.datetime | None
    version: int


class ConnectionPage(msgspec.Struct):
    """The newest first."""

    connections: list[ConnectionResponse]
    total: int
    limit: int
    offset: int


@OPERATIONS.get("/api/connections", access=READ, summary="List connections")
async def list_connections(context: RequestContext[PageQuery, Empty]) -> ConnectionPage:
    """The credentials of the organization, as connections."""
    query, services = context.query, context.services

    def select(connection: sa.Connection) -> ConnectionPage:
        records, counts = services.credentials.list_page(
            connection,
            CredentialFilter(context.organization_id),
            limit=query.limit,
            offset=query.offset,
        )
        shown = to_connection_responses(context, connection, records)
        return ConnectionPage(shown, sum(counts.values()), query.limit, query.offset)

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
    """It is a credential, too."""
    context.principal.check_organization_wide()
    body = context.body
    secret = body.config.api_key
    if not secret or is_mask(secret, ""):
        raise InvalidConnectionConfigError("The configuration needs the api_key of the provider.")
    request = msgspec.structs.replace(
        write_request(context.organization_id, body.provider, body.config, secret),
        name=body.name,
        description=body.description,
        allowed_models=body.allowed_models,
        capacity=msgspec.to_builtins(body.capacity),
        stream_usage=body.stream_usage,
        first_byte_seconds=body.first_byte_seconds,
        idle_seconds=body.idle_seconds,
        total_seconds=body.total_seconds,
    )

    def add(connection: sa.Connection) -> ConnectionResponse:
        with rename_params(PARAMS):
            record = context.services.credentials.add(connection, request, by=context.actor)
        return to_connection_response(record, {})

    return await context.create(add)


@OPERATIONS.get("/api/connections/{credential_id}", access=READ, summary="Read a connection")
async def get_connection(context: RequestContext[Empty, Empty]) -> ConnectionResponse:
    """Its secret is shown as a mask."""
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
    """A secret that begins with four asterisks keeps the stored one, as leaving it out does. The
    stored secret goes to the address that it came with: for another one it has to be given anew."""
    context.principal.check_organization_wide()

    def update(connection: sa.Connection) -> ConnectionResponse:
        record = find(context, connection)
        context.check_match(record.version)
        with rename_params(PARAMS):
            record = change(context, connection, record)
        return to_connection_responses(context, connection, [record])[0]

    return await context.write(update)


@OPERATIONS.delete(
    "/api/connections/{credential_id}", access=WRITE, status=204, summary="Delete a connection"
)
async def delete_connection(context: RequestContext[Empty, Empty]) -> None:
    """Its secret is forgotten for good."""
    context.principal.check_organization_wide()

    def remove(connection: sa.Connection) -> None:
        record = find(context, connection)
        context.check_match(record.version)
        context.services.credentials.remove(connection, record, by=context.actor)

    await context.write(remove)


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> CredentialRecord:
    """The connection of the path. Raises `CredentialNotFoundError`."""
    return context.services.credentials.get(
        connection, context.organization_id, context.path["credential_id"]
    )


def change(
    context: RequestContext[Any, ConnectionUpdate],
    connection: sa.Connection,
    record: CredentialRecord,
) -> CredentialRecord:
    """The record after what the body says.

    Raises `InvalidConnectionConfigError` and the vault's errors.
    """
    body, book = context.body, context.services.credentials
    config = ConnectionConfig() if body.config is UNSET else body.config
    secret = config.api_key
    if secret == "":
        raise InvalidConnectionConfigError("The configuration needs the api_key of the provider.")
    base_url = record.base_url if config.base_url is None else config.base_url.rstrip("/")
    organization = config.organization
    wanted = CredentialChange(
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
                "The stored secret may be sent to its own address only. To change the base_url, "
                "give the api_key anew."
            )
    else:
        again = ConnectionConfig(base_url=base_url, organization=organization)
        request = write_request(context.organization_id, record.integration, again, secret)
        record = book.replace_secret(connection, record, request, by=context.actor)
    return book.update(connection, record, wanted, by=context.actor)


def is_mask(text: str, hint: str) -> bool:
    """Whether a secret that was sent is only what was shown of the stored one."""
    return text.startswith(STARS) or (bool(hint) and text == hint)


def write_request(
    organization_id: str, provider: str, config: ConnectionConfig, secret: str
) -> CredentialRequest:
    """What the vault is asked for."""
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
    """Connections with what their provider said of them."""
    ids = [record.id for record in records]
    discovered = context.services.capacity_tracker.list(connection, ids)
    return [to_connection_response(record, discovered.get(record.id, {})) for record in records]


def to_connection_response(
    record: CredentialRecord, discovered: Mapping[str, Capacity]
) -> ConnectionResponse:
    """A credential as a connection."""
    return ConnectionResponse(
        id=record.id,
        name=record.name,
        description=record.description,
        provider=record.integration,
        allowed_models=record.allowed_models,
        capacity=msgspec.convert(record.capacity, list[CapacityEntry]),
        stream_usage=record.stream_usage,
        first_byte_seconds=record.first_byte_seconds,
        idle_seconds=record.idle_seconds,
        total_seconds=record.total_seconds,
        config=ConnectionConfigResponse(record.hint, record.base_url, record.provider_organization),
        discovered_capacity={
            model: DiscoveredCapacityResponse(
                each.requests, each.tokens, to_datetime(each.observed_at)
            )
            for model, each in discovered.items()
        },
        is_default=record.is_default,
        created_at=to_datetime(record.created_at),
        updated_at=to_datetime(record.updated_at),
        last_used_at=to_optional_datetime(record.last_used_at),
        version=record.version,
    )
