"""Stored secrets by name: written, listed by what they are called, forgotten; never read.

Success is `{"success": true, "data": ...}` here (systems.md 3.2).
"""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import Meta

from headgate.accounts.model import AccountNotFoundError
from headgate.api.access import organization
from headgate.api.credential_shapes import Url
from headgate.api.operation import Ask, Operations
from headgate.api.pages import PageQuery
from headgate.api.shapes import Nothing, show_time
from headgate.vault.model.secret import (
    NAME,
    VALUE_CHARACTERS_MAX,
    SecretRecord,
    SecretRequest,
)

OPERATIONS = Operations(
    "Vault secrets", "Secrets by name, to which credentials refer as {{vault:name}}."
)
READ = organization("secrets:read")
WRITE = organization("secrets:write")
EXAMPLE = {"key_name": "openai_key", "value": "sk-proj-EXAMPLE-0123456789abcdef"}

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


class ShownSecret(msgspec.Struct, kw_only=True):
    """A secret without its value. `key_prefix` has a few leading characters of a long one."""

    key_name: str
    key_prefix: str
    project_id: str | None
    service_type: str | None
    description: str | None
    sent_to: str | None
    created_at: datetime.datetime
    updated_at: datetime.datetime


class SecretStored(msgspec.Struct):
    """What was stored."""

    success: bool
    data: ShownSecret


class SecretList(msgspec.Struct):
    """By name."""

    success: bool
    data: list[ShownSecret]
    total: int
    limit: int
    offset: int


class SecretName(msgspec.Struct):
    """The name of what was removed."""

    key_name: str


class SecretRemoved(msgspec.Struct):
    """What was removed."""

    success: bool
    data: SecretName


@OPERATIONS.post("/api/secrets", access=WRITE, summary="Store a secret", example=EXAMPLE)
async def store_secret(ask: Ask[Nothing, SecretCreate]) -> SecretStored:
    """Of the organization, for its credentials. One of that name is replaced, whole; what refers to
    it has the new value at once."""
    ask.principal.check_organization_wide()
    return await put(ask, None)


@OPERATIONS.get("/api/secrets", access=READ, summary="List secrets")
async def list_secrets(ask: Ask[PageQuery, Nothing]) -> SecretList:
    """Of the organization itself, not of its projects. No values."""
    return await select(ask, None)


@OPERATIONS.delete(
    "/api/secrets/{key_name}", access=WRITE, summary="Remove a secret", is_versioned=False
)
async def remove_secret(ask: Ask[Nothing, Nothing]) -> SecretRemoved:
    """What refers to it is unusable from now on, and says so."""
    ask.principal.check_organization_wide()
    return await remove(ask, None)


@OPERATIONS.post(
    "/api/projects/{project_id}/secrets",
    access=WRITE,
    summary="Store a secret of a project",
    example=EXAMPLE,
)
async def store_project_secret(ask: Ask[Nothing, SecretCreate]) -> SecretStored:
    """One of that name is replaced, whole."""
    return await put(ask, ask.path["project_id"])


@OPERATIONS.get(
    "/api/projects/{project_id}/secrets", access=READ, summary="List secrets of a project"
)
async def list_project_secrets(ask: Ask[PageQuery, Nothing]) -> SecretList:
    """Of the project alone. No values."""
    return await select(ask, ask.path["project_id"])


@OPERATIONS.delete(
    "/api/projects/{project_id}/secrets/{key_name}",
    access=WRITE,
    summary="Remove a secret of a project",
    is_versioned=False,
)
async def remove_project_secret(ask: Ask[Nothing, Nothing]) -> SecretRemoved:
    """For good."""
    return await remove(ask, ask.path["project_id"])


async def put(ask: Ask[Any, SecretCreate], project_id: str | None) -> SecretStored:
    """Store what the body has."""
    body = ask.body
    request = SecretRequest(
        organization_id=ask.organization_id,
        project_id=project_id,
        name=body.key_name,
        value=body.value,
        base_url=body.base_url,
        service_type=body.service_type,
        description=body.description,
    )

    def store(connection: sa.Connection) -> SecretStored:
        check_project(ask, connection, project_id)
        record = ask.services.secrets.put(connection, request, by=ask.actor)
        return SecretStored(True, show_secret(record))

    return await ask.create(store)


async def select(ask: Ask[PageQuery, Any], project_id: str | None) -> SecretList:
    """A page of them."""
    query = ask.query

    def read(connection: sa.Connection) -> tuple[list[SecretRecord], int]:
        check_project(ask, connection, project_id)
        return ask.services.secrets.list(
            connection, ask.organization_id, project_id, limit=query.limit, offset=query.offset
        )

    records, total = await ask.read(read)
    shown = [show_secret(record) for record in records]
    return SecretList(True, shown, total, query.limit, query.offset)


async def remove(ask: Ask[Any, Any], project_id: str | None) -> SecretRemoved:
    """Forget the one that the path names."""
    name = ask.path["key_name"]

    def forget(connection: sa.Connection) -> None:
        check_project(ask, connection, project_id)
        ask.services.secrets.remove(
            connection, ask.organization_id, project_id, name=name, by=ask.actor
        )

    await ask.write(forget)
    return SecretRemoved(True, SecretName(name))


def check_project(ask: Ask[Any, Any], connection: sa.Connection, project_id: str | None) -> None:
    """Raises `AccountNotFoundError` for a project that this caller may not know of."""
    if project_id is None:
        return
    if not ask.principal.may_see_project(project_id):
        raise AccountNotFoundError("There is no such project.")
    ask.services.accounts.get_project(connection, ask.organization_id, project_id)


def show_secret(record: SecretRecord) -> ShownSecret:
    """A secret as the API writes it."""
    return ShownSecret(
        key_name=record.name,
        key_prefix=record.hint,
        project_id=record.project_id,
        service_type=record.service_type,
        description=record.description,
        sent_to=record.origin or None,
        created_at=show_time(record.created_at),
        updated_at=show_time(record.updated_at),
    )
