"""Stored secrets as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.api.schemas.credentials import Url
from headgate.api.schemas.fields import build_response
from headgate.api.schemas.pages import Page
from headgate.vault.model.secret import (
    NAME,
    VALUE_CHARACTERS_MAX,
    SecretRecord,
)

LINE = r"^[^\u0000-\u001f\u007f]*$"


Line = Annotated[str, Meta(max_length=500, pattern=LINE, description="One line of text.")]


class SecretCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A secret to store. With `base_url`, it is sent only to that address. Without it, it is sent
    only to the address of the integration whose credential refers to it."""

    key_name: Annotated[str, Meta(pattern=f"^{NAME.pattern}$")]
    value: Annotated[str, Meta(min_length=1, max_length=VALUE_CHARACTERS_MAX)]
    service_type: Annotated[str, Meta(max_length=64, pattern=LINE)] | None = None
    description: Line | None = None
    base_url: Url | None = None

    def __repr__(self) -> str:
        return f"SecretCreate({self.key_name})"


class SecretResponse(msgspec.Struct, kw_only=True):
    """A secret without its value. `key_prefix` has the first characters of a long value."""

    key_name: str
    key_prefix: str
    project_id: str | None
    service_type: str | None
    description: str | None
    sent_to: str | None
    created_at: datetime.datetime
    updated_at: datetime.datetime


class StoredSecretResponse(msgspec.Struct):
    """The secret that was stored."""

    success: bool
    data: SecretResponse


class SecretList(Page):
    """A page of secrets, by name."""

    success: bool
    data: list[SecretResponse]


class SecretName(msgspec.Struct):
    """The name of the deleted secret."""

    key_name: str


class RemovedSecretResponse(msgspec.Struct):
    """The secret that was deleted."""

    success: bool
    data: SecretName


def to_secret_response(record: SecretRecord) -> SecretResponse:
    return build_response(
        SecretResponse,
        record,
        key_name=record.name,
        key_prefix=record.hint,
        sent_to=record.origin or None,
    )
