"""Resources as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.schemas.fields import build_response
from headgate.api.schemas.pages import Page, PageQuery
from headgate.relay.capacity_limits import CapacityEntries, CapacityEntry
from headgate.relay.targets import TARGETS_MAX
from headgate.resources.model.resource import (
    DESCRIPTION_CHARACTERS_MAX,
    SECONDARY_MODELS_MAX,
    Resource,
    ResourceConfig,
    name_credentials,
)
from headgate.resources.model.routing_config import RoutingConfig
from headgate.resources.model.slot import ModelSlot

ResourceName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=128,
        description="Letters, digits and _.:/@-.",
        extra_json_schema={"pattern": "^[A-Za-z0-9_.:/@-]+$"},
    ),
]
Text = Annotated[str, Meta(max_length=DESCRIPTION_CHARACTERS_MAX)]
Word = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]
KeyIds = Annotated[tuple[Word, ...], Meta(max_length=500)]


class ResourceQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select a page of resources."""

    project_id: Word | None = None


class ResourceCreate(ResourceConfig, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new resource. Without `project_id` it belongs to the project of the management key that
    creates it, or else to the oldest project."""

    name: ResourceName
    description: Text | None = None
    project_id: Word | None = None
    assign_api_keys: KeyIds = ()


class ResourceUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A partial update; fields that are missing stay the same. A list or an object is replaced
    whole."""

    name: ResourceName | UnsetType = UNSET
    description: Text | UnsetType | None = UNSET
    model: ModelSlot | UnsetType = UNSET
    use_fallback: bool | UnsetType = UNSET
    fallback_models: (
        Annotated[tuple[ModelSlot, ...], Meta(max_length=TARGETS_MAX - 1)] | UnsetType
    ) = UNSET
    secondary_models: (
        Annotated[tuple[ModelSlot, ...], Meta(max_length=SECONDARY_MODELS_MAX)] | UnsetType
    ) = UNSET
    routing: RoutingConfig | UnsetType | None = UNSET
    capacity: CapacityEntries | UnsetType = UNSET
    enforce_capacity: bool | UnsetType = UNSET
    default_args: dict[str, Any] | UnsetType = UNSET
    assign_api_keys: KeyIds = ()


class ResourceResponse(msgspec.Struct, kw_only=True):
    """A resource of a project."""

    id: str
    organization_id: str
    project_id: str
    name: str
    description: str | None
    model: ModelSlot
    use_fallback: bool
    fallback_models: list[ModelSlot]
    secondary_models: list[ModelSlot]
    routing: RoutingConfig | None
    capacity: list[CapacityEntry]
    enforce_capacity: bool
    default_args: dict[str, Any]
    created_at: datetime.datetime
    updated_at: datetime.datetime
    version: int


class ResourcePage(Page):
    """A page of resources, by name."""

    resources: list[ResourceResponse]


def read_config(body: ResourceCreate) -> ResourceConfig:
    """Return the part of a body that says what the resource does."""
    return ResourceConfig(
        **{name: getattr(body, name) for name in ResourceConfig.__struct_fields__}
    )


def merge_config(stored: ResourceConfig, body: ResourceUpdate) -> ResourceConfig:
    """Return what a resource does after an update."""
    given = {
        name: value
        for name in ResourceConfig.__struct_fields__
        if (value := getattr(body, name)) is not UNSET
    }
    return msgspec.structs.replace(stored, **given)


def to_resource_response(resource: Resource, names: dict[str, str]) -> ResourceResponse:
    """Return a resource for a reader. `names` are those of credentials, by id."""
    config = name_credentials(resource.config, names)
    fields: dict[str, Any] = msgspec.structs.asdict(config)
    for name in ("fallback_models", "secondary_models"):
        fields[name] = list(fields[name])
    return build_response(ResourceResponse, resource, **fields)
