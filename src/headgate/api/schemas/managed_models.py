"""Managed models as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.schemas.fields import Name, to_datetime
from headgate.api.schemas.pages import PageQuery
from headgate.credentials.model.managed_model import (
    ManagedModel,
)

ModelId = Annotated[
    str, Meta(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$", examples=["gpt-5.4-mini"])
]


CredentialName = Annotated[
    str,
    Meta(
        min_length=1,
        max_length=200,
        description="Id or name of one of the platform's own credentials.",
    ),
]


class ManagedModelQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which part of the list."""


class ManagedModelCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model to be sold. `model_id` is what callers name; without a `wire_id` the provider is told
    what the catalog says."""

    model_id: ModelId
    credential: CredentialName
    wire_id: ModelId | None = None
    display_name: Name | None = None
    is_default: bool = False


class ManagedModelUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What shall be otherwise. A deprecated model with a replacement is served by that one."""

    credential: CredentialName | UnsetType = UNSET
    wire_id: ModelId | UnsetType | None = UNSET
    display_name: Name | UnsetType = UNSET
    deprecated: bool | UnsetType = UNSET
    replacement_id: ModelId | UnsetType | None = UNSET
    is_default: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class ManagedModelResponse(msgspec.Struct):
    """A managed model. No `wire_id`: as the catalog has it."""

    id: str
    model_id: str
    credential_id: str
    wire_id: str | None
    display_name: str
    deprecated: bool
    replacement_id: str | None
    is_default: bool
    enabled: bool
    created_at: datetime.datetime
    updated_at: datetime.datetime
    version: int


class ManagedModelPage(msgspec.Struct):
    """By the id that callers name."""

    managed_models: list[ManagedModelResponse]
    total: int
    limit: int
    offset: int


def to_managed_model_response(managed: ManagedModel) -> ManagedModelResponse:
    """A managed model as the API writes it."""
    return ManagedModelResponse(
        id=managed.id,
        model_id=managed.model_id,
        credential_id=managed.credential_id,
        wire_id=managed.wire_id or None,
        display_name=managed.display_name,
        deprecated=managed.deprecated,
        replacement_id=managed.replacement_id,
        is_default=managed.is_default,
        enabled=managed.enabled,
        created_at=to_datetime(managed.created_at),
        updated_at=to_datetime(managed.updated_at),
        version=managed.version,
    )
