"""Connections as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.schemas.credentials import Seconds, Url
from headgate.api.schemas.fields import Name, build_response, to_datetime
from headgate.api.schemas.pages import Page
from headgate.credentials.model.capacity import Capacity
from headgate.credentials.model.credential import (
    CredentialRecord,
)
from headgate.credentials.model.secret import SECRET_CHARACTERS_MAX
from headgate.relay.capacity_limits import CapacityEntries, CapacityEntry

Model = Annotated[
    str, Meta(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$", examples=["gpt-5.4*"])
]
Models = Annotated[list[Model], Meta(max_length=200)]
StreamUsage = Literal["ask", "never"]
Description = Annotated[str, Meta(max_length=1000, pattern=r"^[^\u0000]*$")]


class ConnectionConfig(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """How to reach the provider. An `api_key` of asterisks, or the mask that was returned, keeps
    the stored key."""

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
    capacity: CapacityEntries = []
    stream_usage: StreamUsage = "ask"
    first_byte_seconds: Seconds | None = None
    idle_seconds: Seconds | None = None
    total_seconds: Seconds | None = None


class ConnectionUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A partial update; fields that are missing stay the same. Changing `config.base_url` requires
    a new `config.api_key`."""

    name: Name | UnsetType = UNSET
    config: ConnectionConfig | UnsetType = UNSET
    description: Description | UnsetType | None = UNSET
    allowed_models: Models | UnsetType = UNSET
    capacity: CapacityEntries | UnsetType = UNSET
    stream_usage: StreamUsage | UnsetType = UNSET
    first_byte_seconds: Seconds | UnsetType | None = UNSET
    idle_seconds: Seconds | UnsetType | None = UNSET
    total_seconds: Seconds | UnsetType | None = UNSET


class ConnectionConfigResponse(msgspec.Struct):
    """How the provider is reached, with the API key masked."""

    api_key: str
    base_url: str
    organization: str | None


class DiscoveredCapacityResponse(msgspec.Struct):
    """The limits per minute that the provider announced for a model."""

    requests: int | None
    tokens: int | None
    observed_at: datetime.datetime


class ConnectionResponse(msgspec.Struct, kw_only=True):
    """A connection. `discovered_capacity` has, by model, the limits that the provider announced in
    the last 7 days."""

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


class ConnectionPage(Page):
    """A page of connections, newest first."""

    connections: list[ConnectionResponse]


def to_connection_response(
    record: CredentialRecord, discovered: Mapping[str, Capacity]
) -> ConnectionResponse:
    return build_response(
        ConnectionResponse,
        record,
        provider=record.integration,
        capacity=msgspec.convert(record.capacity, list[CapacityEntry]),
        config=ConnectionConfigResponse(record.hint, record.base_url, record.provider_organization),
        discovered_capacity={
            model: DiscoveredCapacityResponse(
                each.requests, each.tokens, to_datetime(each.observed_at)
            )
            for model, each in discovered.items()
        },
    )
