"""Resources in the names of VM-X: the same ones, below `/api/ai-resource`."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.api.access import organization
from headgate.api.operation import WORKSPACE, Operations, RequestContext
from headgate.api.routes.keys import find_authority
from headgate.api.routes.resources import respond, store
from headgate.api.schemas.ai_resources import (
    AiResourceCreate,
    AiResourceResponse,
    AiResourceUpdate,
    read_change,
    read_creation,
    to_ai_resource_response,
)
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.pages import PageQuery
from headgate.api.schemas.resources import merge_config, read_config
from headgate.api.vmx_workspace import find_environment
from headgate.resources.model.resource import (
    Resource,
    ResourceChange,
    ResourceFilter,
    ResourceRequest,
)

OPERATIONS = Operations(
    "VM-X: resources",
    "The resources of a project, with the addresses and the names of VM-X. The workspace is the "
    "organization, the environment the project.",
)
READ = organization("resources:read")
WRITE = organization("resources:write")
BASE = f"/api/ai-resource{WORKSPACE}"
EXAMPLE = {
    "name": "assistant",
    "model": {"provider": "openai", "model": "gpt-5.4", "maxRetries": 2, "timeoutMs": 30000},
    "useFallback": True,
    "fallbackModels": [{"provider": "openai", "model": "gpt-5.4-mini"}],
    "enforceCapacity": False,
}


@OPERATIONS.get(BASE, access=READ, summary="List resources in names of VM-X")
async def list_ai_resources(context: RequestContext[PageQuery, Empty]) -> list[AiResourceResponse]:
    """Return the resources of the environment, by name."""
    query = context.query

    def select(connection: sa.Connection) -> list[AiResourceResponse]:
        page, _ = context.services.resources.list_page(
            connection, select_own(context, connection), limit=query.limit, offset=query.offset
        )
        return [
            to_ai_resource_response(respond(context, connection, resource)) for resource in page
        ]

    return await context.read(select)


@OPERATIONS.post(
    BASE,
    access=WRITE,
    status=201,
    summary="Create a resource in names of VM-X",
    errors=(409,),
    example=EXAMPLE,
)
async def create_ai_resource(
    context: RequestContext[Empty, AiResourceCreate],
) -> AiResourceResponse:
    """Create a resource. From now on, its name is a `model` for the API keys of its environment. A
    key of `assignApiKeys` that is limited to some resources may use it as well."""

    def create(connection: sa.Connection) -> AiResourceResponse:
        environment = find_environment(context, connection)
        body = read_creation(context.body, environment.id)
        request = ResourceRequest(
            organization_id=context.organization_id,
            project_id=environment.id,
            name=body.name,
            description=body.description,
            config=read_config(body),
            assign_api_keys=body.assign_api_keys,
        )
        resource = context.services.resources.create(
            connection, request, by=context.actor, authority=find_authority(context, connection)
        )
        return to_ai_resource_response(respond(context, connection, resource))

    return await context.create(create)


@OPERATIONS.get(f"{BASE}/{{resource_id}}", access=READ, summary="Read a resource in names of VM-X")
async def get_ai_resource(context: RequestContext[Empty, Empty]) -> AiResourceResponse:
    """Return one resource, by its id or name."""
    return await context.read(
        lambda connection: to_ai_resource_response(
            respond(context, connection, find(context, connection))
        )
    )


@OPERATIONS.put(
    f"{BASE}/{{resource_id}}",
    access=WRITE,
    summary="Change a resource in names of VM-X",
    errors=(409,),
    example={"enforceCapacity": True, "fallbackModels": None},
)
async def update_ai_resource(
    context: RequestContext[Empty, AiResourceUpdate],
) -> AiResourceResponse:
    """Change the given fields; null takes a field back to its default. A list or an object is
    replaced whole."""
    body = read_change(context.body)

    def update(connection: sa.Connection) -> AiResourceResponse:
        resource = context.check_version(find(context, connection))
        change = ResourceChange(
            name=body.name,
            description=body.description,
            config=merge_config(resource.config, body),
            assign_api_keys=body.assign_api_keys,
        )
        return to_ai_resource_response(store(context, connection, resource, change))

    return await context.write(update)


@OPERATIONS.delete(
    f"{BASE}/{{resource_id}}",
    access=WRITE,
    status=204,
    summary="Delete a resource in names of VM-X",
)
async def delete_ai_resource(context: RequestContext[Empty, Empty]) -> None:
    """Delete a resource."""

    def delete(connection: sa.Connection) -> None:
        resource = context.check_version(find(context, connection))
        context.services.resources.delete(connection, resource, by=context.actor)

    await context.write(delete)


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> Resource:
    """Return the resource of the path. Raise `ResourceNotFoundError` and
    `AccountNotFoundError`."""
    filters = select_own(context, connection)
    return context.services.resources.find(connection, filters, context.path["resource_id"])


def select_own(context: RequestContext[Any, Any], connection: sa.Connection) -> ResourceFilter:
    """Select the resources of the environment that the path names. Raise `AccountNotFoundError`."""
    environment = find_environment(context, connection)
    return ResourceFilter(organization_id=context.organization_id, project_id=environment.id)
