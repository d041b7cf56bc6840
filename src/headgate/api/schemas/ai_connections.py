"""Connections in the names of VM-X."""

from __future__ import annotations

import datetime
from collections.abc import Mapping
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.schemas.connections import (
    ConnectionCreate,
    ConnectionUpdate,
    Description,
    Models,
)
from headgate.api.schemas.credentials import Url
from headgate.api.schemas.fields import Name, build_response, to_datetime
from headgate.credentials.model.capacity import Capacity
from headgate.credentials.model.credential import CredentialRecord
from headgate.credentials.model.secret import SECRET_CHARACTERS_MAX
from headgate.relay.capacity_limits import LimitNumber

MASK = "********"
"""What stands for every secret. A text that begins with half of it keeps the stored one."""
Provider = Annotated[str, Meta(min_length=1, max_length=64)]


class AiCapacity(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="camel"
):
    """A limit on requests and tokens in a period, in total or for each value of `dimension`."""

    period: Literal["minute", "hour", "day", "week", "month", "lifetime"]
    requests: LimitNumber | None = None
    tokens: LimitNumber | None = None
    enabled: bool = True
    dimension: Literal["source-ip", "metadata"] | None = None
    dimension_field: Annotated[str, Meta(min_length=1, max_length=64)] | None = None
    discovered: bool = False


AiCapacities = Annotated[list[AiCapacity], Meta(max_length=50)]


class AiConnectionConfig(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="camel"
):
    """How to reach the provider. An `apiKey` of asterisks keeps the stored key."""

    api_key: Annotated[str, Meta(max_length=SECRET_CHARACTERS_MAX)]
    base_url: Url | None = None
    organization: Annotated[str, Meta(min_length=1, max_length=200)] | None = None

    def __repr__(self) -> str:
        return "AiConnectionConfig()"


class AiConnectionCreate(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="camel"
):
    """A new connection."""

    name: Name
    provider: Provider
    config: AiConnectionConfig
    description: Description | None = None
    allowed_models: Models | None = None
    capacity: AiCapacities | None = None

    def to_own(self) -> ConnectionCreate:
        fields = read_given(self)
        return msgspec.convert(fields, ConnectionCreate)


class AiConnectionUpdate(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True, rename="camel"
):
    """The fields to change; those that are missing stay the same. `provider` may repeat what the
    connection has."""

    name: Name | UnsetType = UNSET
    provider: Provider | UnsetType = UNSET
    config: AiConnectionConfig | UnsetType | None = UNSET
    description: Description | UnsetType | None = UNSET
    allowed_models: Models | UnsetType | None = UNSET
    capacity: AiCapacities | UnsetType | None = UNSET

    def to_own(self) -> ConnectionUpdate:
        fields = read_given(self)
        fields.pop("provider", None)
        if self.description is None:
            fields["description"] = None
        for name in ("allowed_models", "capacity"):
            if getattr(self, name) is None:
                fields[name] = []
        return msgspec.convert(fields, ConnectionUpdate)


class AiConnectionConfigResponse(msgspec.Struct, rename="camel"):
    """How the provider is reached, with the API key masked."""

    api_key: str
    base_url: str
    organization: str | None


class AiDiscoveredCapacity(msgspec.Struct, rename="camel"):
    """The limits per minute that the provider announced for a model."""

    requests: int | None
    tokens: int | None
    observed_at: datetime.datetime


class AiConnectionResponse(msgspec.Struct, kw_only=True, rename="camel"):
    """A connection. `discoveredCapacity` has, by model, the limits that the provider announced in
    the last 7 days."""

    connection_id: str
    workspace_id: str
    environment_id: str
    name: str
    description: str | None
    provider: str
    allowed_models: list[str]
    capacity: list[AiCapacity]
    config: AiConnectionConfigResponse
    discovered_capacity: dict[str, AiDiscoveredCapacity]
    created_at: datetime.datetime
    updated_at: datetime.datetime
    version: int


def read_given(struct: msgspec.Struct) -> dict[str, Any]:
    """Return the fields that a body gives, by their own names, without null."""
    fields: dict[str, Any] = {}
    for name in struct.__struct_fields__:
        value = getattr(struct, name)
        if isinstance(value, msgspec.Struct):
            fields[name] = read_given(value)
        elif isinstance(value, list):
            fields[name] = [
                read_given(each) if isinstance(each, msgspec.Struct) else each
                for each in value  # pyright: ignore[reportUnknownVariableType]
            ]
        elif value not in (None, UNSET):
            fields[name] = value
    return fields


def to_ai_connection_response(
    record: CredentialRecord, discovered: Mapping[str, Capacity], environment_id: str
) -> AiConnectionResponse:
    own = msgspec.convert(record.capacity, list[dict[str, Any]])
    return build_response(
        AiConnectionResponse,
        record,
        connection_id=record.id,
        workspace_id=record.organization_id,
        environment_id=environment_id,
        provider=record.integration,
        capacity=[AiCapacity(**each) for each in own],
        config=AiConnectionConfigResponse(MASK, record.base_url, record.provider_organization),
        discovered_capacity={
            model: AiDiscoveredCapacity(each.requests, each.tokens, to_datetime(each.observed_at))
            for model, each in discovered.items()
        },
    )
