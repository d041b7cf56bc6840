"""Stored secrets as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.api.schemas.credentials import Url
from headgate.api.schemas.fields import to_datetime
from headgate.vault.model.secret import (
    NAME,
    VALUE_CHARACTERS_MAX,
    SecretRecord,
)

LINE = r"^[^\u0000-\u001f\u007f]*$"


Line = Annotated[str, Meta(max_length=500, pattern=LINE, description="Text on one line.")]


class SecretCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A secret. Without `base_url` it is sent to the own address of the integration only whose
    credential refers to it; with it, only there."""

    key_name: Annotated[str, Meta(pattern=f"^{NAME.pattern}$")]
    value: Annotated[str, Meta(min_length=1, max_length=VALUE_CHARACTERS_MAX)]
    service_type: Annotated[str, Meta(max_length=64, pattern=LINE)] | None = None
    description: Line | None = None
    base_url: Url | None = None

    def __repr__(self) -> str:
        return f"SecretCreate({self.key_name})"


class SecretResponse(msgspec.Struct, kw_only=True):
    """A secret without its value. `key_prefix` has a few leading characters of a long one."""

    key_name: str
    key_prefix: str
    project_id: str | None
    service_type: str | None
    description: str | None
    sent_to: str | None
    created_at: datetime.datetime
    updated_at: datetime.datetime


class StoredSecretResponse(msgspec.Struct):
    """What was stored."""

    success: bool
    data: SecretResponse


class SecretList(msgspec.Struct):
    """By name."""

    success: bool
    data: list[SecretResponse]
    total: int
    limit: int
    offset: int


class SecretName(msgspec.Struct):
    """The name of what was removed."""

    key_name: str


class RemovedSecretResponse(msgspec.Struct):
    """What was removed."""

    success: bool
    data: SecretName


def to_secret_response(record: SecretRecord) -> SecretResponse:
    """A secret as the API writes it."""
    return SecretResponse(
        key_name=record.name,
        key_prefix=record.hint,
        project_id=record.project_id,
        service_type=record.service_type,
        description=record.description,
        sent_to=record.origin or None,
        created_at=to_datetime(record.created_at),
        updated_at=to_datetime(record.updated_at),
    )
