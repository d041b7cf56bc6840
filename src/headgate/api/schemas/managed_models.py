"""Managed models as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.schemas.fields import Name, build_response
from headgate.api.schemas.pages import Page, PageQuery
from headgate.credentials.model.managed_model import (
    ManagedModel,
)

ModelId = Annotated[
    str, Meta(min_length=1, max_length=256, pattern=r"^[\x21-\x7e]+$", examples=["gpt-5.4-mini"])
]
CredentialName = Annotated[str, Meta(min_length=1, max_length=200)]


class ManagedModelQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select a page of managed models."""


class ManagedModelCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A model to sell. Callers name it by `model_id`. `wire_id` is the id that the provider is
    sent; without it, the catalog's."""

    model_id: ModelId
    credential: CredentialName
    wire_id: ModelId | None = None
    display_name: Name | None = None
    is_default: bool = False


class ManagedModelUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A partial update; fields that are missing stay the same. Calls to a deprecated model with a
    replacement are served by the replacement."""

    credential: CredentialName | UnsetType = UNSET
    wire_id: ModelId | UnsetType | None = UNSET
    display_name: Name | UnsetType = UNSET
    deprecated: bool | UnsetType = UNSET
    replacement_id: ModelId | UnsetType | None = UNSET
    is_default: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class ManagedModelResponse(msgspec.Struct):
    """A managed model. If `wire_id` is null, the provider is sent the catalog's id."""

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


class ManagedModelPage(Page):
    """A page of managed models, by model id."""

    managed_models: list[ManagedModelResponse]


def to_managed_model_response(managed: ManagedModel) -> ManagedModelResponse:
    return build_response(ManagedModelResponse, managed, wire_id=managed.wire_id or None)
