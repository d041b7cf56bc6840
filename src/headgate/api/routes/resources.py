"""Resources: named targets of calls, with fallbacks, routing rules and default arguments."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.routes.keys import choose_project, find_authority
from headgate.api.schemas.dry_runs import (
    DryRunCreate,
    DryRunResponse,
    read_dry_run,
    to_dry_run_response,
)
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.resources import (
    ResourceCreate,
    ResourcePage,
    ResourceQuery,
    ResourceResponse,
    ResourceUpdate,
    merge_config,
    read_config,
    to_resource_response,
)
from headgate.credentials.service.references import list_references
from headgate.resources.model.resource import (
    Resource,
    ResourceChange,
    ResourceFilter,
    ResourceNotFoundError,
    ResourceRequest,
)

OPERATIONS = Operations(
    "Resources",
    "Named targets of calls: a request that names a resource as its `model` goes to the models of "
    "the resource.",
)
READ = organization("resources:read")
WRITE = organization("resources:write")
ALL = "/api/resources"
ONE = "/api/resources/{resource_id}"
DRY_RUN = "/api/resources/{resource_id}/dry-run"
EXAMPLE = {
    "name": "assistant",
    "model": {"model": "gpt-5.4", "max_retries": 2, "timeout_ms": 30000},
    "use_fallback": True,
    "fallback_models": [{"model": "gpt-5.4-mini"}],
    "default_args": {"temperature": 0.2},
}


@OPERATIONS.get(ALL, access=READ, summary="List resources")
async def list_resources(context: RequestContext[ResourceQuery, Empty]) -> ResourcePage:
    """Return the resources of the organization, or of one project, by name."""
    query = context.query
    filters = ResourceFilter(
        organization_id=context.organization_id,
        project_id=query.project_id,
        among=context.principal.projects,
    )

    def read(connection: sa.Connection) -> ResourcePage:
        page, total = context.services.resources.list_page(
            connection, filters, limit=query.limit, offset=query.offset
        )
        names = list_credential_names(context, connection)
        responses = [to_resource_response(each, names) for each in page]
        return ResourcePage(resources=responses, **query.position(total))

    return await context.read(read)


@OPERATIONS.post(
    ALL, access=WRITE, status=201, summary="Create a resource", errors=(409,), example=EXAMPLE
)
async def create_resource(context: RequestContext[Empty, ResourceCreate]) -> ResourceResponse:
    """Create a resource. From now on, its name is a `model` for the API keys of its project. A key
    of `assign_api_keys` that is limited to some resources may use it as well."""
    body = context.body

    def create(connection: sa.Connection) -> ResourceResponse:
        project_id = body.project_id or choose_project(context, connection)
        check_project(context, project_id)
        request = ResourceRequest(
            organization_id=context.organization_id,
            project_id=project_id,
            name=body.name,
            description=body.description,
            config=read_config(body),
            assign_api_keys=body.assign_api_keys,
        )
        resource = context.services.resources.create(
            connection, request, by=context.actor, authority=find_authority(context, connection)
        )
        return respond(context, connection, resource)

    return await context.create(create)


@OPERATIONS.get(ONE, access=READ, summary="Read a resource")
async def get_resource(context: RequestContext[Empty, Empty]) -> ResourceResponse:
    """Return one resource, by its id, or by its name where only one project has one of that
    name."""
    return await context.read(
        lambda connection: respond(context, connection, find(context, connection))
    )


@OPERATIONS.patch(
    ONE,
    access=WRITE,
    summary="Change a resource",
    errors=(409,),
    example={"use_fallback": True, "default_args": {"temperature": 0.2}},
)
async def update_resource(context: RequestContext[Empty, ResourceUpdate]) -> ResourceResponse:
    """Change the given fields. New calls see the change within a second. API keys that are limited
    to a resource may use it after it was renamed."""
    body = context.body

    def update(connection: sa.Connection) -> ResourceResponse:
        resource = context.check_version(find(context, connection))
        change = ResourceChange(
            name=body.name,
            description=body.description,
            config=merge_config(resource.config, body),
            assign_api_keys=body.assign_api_keys,
        )
        return store(context, connection, resource, change)

    return await context.write(update)


@OPERATIONS.put(ONE, access=WRITE, summary="Replace a resource", errors=(409,), example=EXAMPLE)
async def replace_resource(context: RequestContext[Empty, ResourceCreate]) -> ResourceResponse:
    """Replace all fields of a resource; those that are missing get their defaults. It stays in its
    project."""
    body = context.body

    def update(connection: sa.Connection) -> ResourceResponse:
        resource = context.check_version(find(context, connection))
        change = ResourceChange(
            name=body.name,
            description=body.description,
            config=read_config(body),
            assign_api_keys=body.assign_api_keys,
        )
        return store(context, connection, resource, change)

    return await context.write(update)


@OPERATIONS.delete(ONE, access=WRITE, status=204, summary="Delete a resource")
async def delete_resource(context: RequestContext[Empty, Empty]) -> None:
    """Delete a resource. Calls that name it go to a model of that name, if a provider has one."""

    def delete(connection: sa.Connection) -> None:
        resource = context.check_version(find(context, connection))
        context.services.resources.delete(connection, resource, by=context.actor)

    await context.write(delete)


@OPERATIONS.post(
    DRY_RUN,
    access=WRITE,
    summary="Test the rules of a resource",
    example={
        "request": {"messages": [{"role": "user", "content": "Hello"}]},
        "metadata": {"tier": "premium"},
        "live": {"error_rate": 35},
    },
)
async def dry_run_resource(context: RequestContext[Empty, DryRunCreate]) -> DryRunResponse:
    """Tell what would happen to a request: which rule decides and why, with the value of every
    condition, and the models and credentials that the call would try. Nothing is sent, counted or
    stored."""

    def read(connection: sa.Connection) -> tuple[Resource, dict[str, str]]:
        return find(context, connection), list_credential_names(context, connection)

    resource, names = await context.read(read)
    body = context.body
    result = context.services.dry_runs.run(resource, read_dry_run(body), body.routing)
    return to_dry_run_response(resource.id, resource.name, result, names)


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> Resource:
    """Return the resource of the path. Raise `ResourceNotFoundError`."""
    filters = ResourceFilter(
        organization_id=context.organization_id, among=context.principal.projects
    )
    return context.services.resources.find(connection, filters, context.path["resource_id"])


def store(
    context: RequestContext[Any, Any],
    connection: sa.Connection,
    resource: Resource,
    change: ResourceChange,
) -> ResourceResponse:
    changed = context.services.resources.update(
        connection,
        resource,
        change,
        by=context.actor,
        authority=find_authority(context, connection),
    )
    return respond(context, connection, changed)


def respond(
    context: RequestContext[Any, Any], connection: sa.Connection, resource: Resource
) -> ResourceResponse:
    return to_resource_response(resource, list_credential_names(context, connection))


def list_credential_names(
    context: RequestContext[Any, Any], connection: sa.Connection
) -> dict[str, str]:
    """Return the names of the credentials that the organization can use, by id."""
    return {each.id: each.name for each in list_references(connection, context.organization_id)}


def check_project(context: RequestContext[Any, Any], project_id: str) -> None:
    """Raise `ResourceNotFoundError` for a project that the principal may not see."""
    if not context.principal.may_see_project(project_id):
        raise ResourceNotFoundError("There is no such project.", param="project_id")
