"""Stored secrets by name. They can be written, listed and deleted, but never read.

Successful answers have the form `{"success": true, "data": ...}` here.
"""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.accounts.model import AccountNotFoundError
from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.pages import PageQuery
from headgate.api.schemas.secrets import (
    RemovedSecretResponse,
    SecretCreate,
    SecretList,
    SecretName,
    StoredSecretResponse,
    to_secret_response,
)
from headgate.vault.model.secret import (
    SecretRecord,
    SecretRequest,
)

OPERATIONS = Operations(
    "Vault secrets", "Named secrets that credentials refer to as `{{vault:name}}`."
)
READ = organization("secrets:read")
WRITE = organization("secrets:write")
EXAMPLE = {"key_name": "openai_key", "value": "sk-proj-EXAMPLE-0123456789abcdef"}


@OPERATIONS.post("/api/secrets", access=WRITE, summary="Store a secret", example=EXAMPLE)
async def store_secret(context: RequestContext[Empty, SecretCreate]) -> StoredSecretResponse:
    """Store a named secret that the organization's credentials can refer to as `{{vault:name}}`. A
    secret with the same name is replaced, and every credential that refers to it uses the new
    value at once."""
    context.principal.check_organization_wide()
    return await put(context, None)


@OPERATIONS.get("/api/secrets", access=READ, summary="List secrets")
async def list_secrets(context: RequestContext[PageQuery, Empty]) -> SecretList:
    """Return the secrets of the organization by name, without their values. Secrets of its projects
    are not included."""
    return await select(context, None)


@OPERATIONS.delete(
    "/api/secrets/{key_name}", access=WRITE, summary="Delete a secret", is_versioned=False
)
async def remove_secret(context: RequestContext[Empty, Empty]) -> RemovedSecretResponse:
    """Delete a secret of the organization for good. Credentials that refer to it stop working, and
    their calls fail with an error that says so."""
    context.principal.check_organization_wide()
    return await remove(context, None)


@OPERATIONS.post(
    "/api/projects/{project_id}/secrets",
    access=WRITE,
    summary="Store a secret of a project",
    example=EXAMPLE,
)
async def store_project_secret(
    context: RequestContext[Empty, SecretCreate],
) -> StoredSecretResponse:
    """Store a named secret for one project. A secret of the project with the same name is
    replaced."""
    return await put(context, context.path["project_id"])


@OPERATIONS.get(
    "/api/projects/{project_id}/secrets", access=READ, summary="List the secrets of a project"
)
async def list_project_secrets(context: RequestContext[PageQuery, Empty]) -> SecretList:
    """Return the secrets of one project by name, without their values. Secrets of the organization
    are not included."""
    return await select(context, context.path["project_id"])


@OPERATIONS.delete(
    "/api/projects/{project_id}/secrets/{key_name}",
    access=WRITE,
    summary="Delete a secret of a project",
    is_versioned=False,
)
async def remove_project_secret(context: RequestContext[Empty, Empty]) -> RemovedSecretResponse:
    """Delete a secret of one project for good."""
    return await remove(context, context.path["project_id"])


async def put(
    context: RequestContext[Any, SecretCreate], project_id: str | None
) -> StoredSecretResponse:
    body = context.body
    request = SecretRequest(
        organization_id=context.organization_id,
        project_id=project_id,
        name=body.key_name,
        value=body.value,
        base_url=body.base_url,
        service_type=body.service_type,
        description=body.description,
    )

    def store(connection: sa.Connection) -> StoredSecretResponse:
        check_project(context, connection, project_id)
        record = context.services.secrets.put(connection, request, by=context.actor)
        return StoredSecretResponse(True, to_secret_response(record))

    return await context.create(store)


async def select(context: RequestContext[PageQuery, Any], project_id: str | None) -> SecretList:
    query = context.query

    def read(connection: sa.Connection) -> tuple[list[SecretRecord], int]:
        check_project(context, connection, project_id)
        return context.services.secrets.list(
            connection, context.organization_id, project_id, limit=query.limit, offset=query.offset
        )

    records, total = await context.read(read)
    responses = [to_secret_response(record) for record in records]
    return SecretList(True, responses, **query.position(total))


async def remove(
    context: RequestContext[Any, Any], project_id: str | None
) -> RemovedSecretResponse:
    name = context.path["key_name"]

    def forget(connection: sa.Connection) -> None:
        check_project(context, connection, project_id)
        context.services.secrets.remove(
            connection, context.organization_id, project_id, name=name, by=context.actor
        )

    await context.write(forget)
    return RemovedSecretResponse(True, SecretName(name))


def check_project(
    context: RequestContext[Any, Any], connection: sa.Connection, project_id: str | None
) -> None:
    """Raise `AccountNotFoundError` for a project that the principal may not see."""
    if project_id is None:
        return
    if not context.principal.may_see_project(project_id):
        raise AccountNotFoundError("There is no such project.")
    context.services.accounts.get_project(connection, context.organization_id, project_id)
