"""What is used of limits, and the priority pools of projects."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.routes.connections import find as find_connection
from headgate.api.routes.keys import find as find_key
from headgate.api.routes.projects import find as find_project
from headgate.api.routes.resources import find as find_resource
from headgate.api.schemas.capacity import (
    CapacityResponse,
    PoolsResponse,
    PoolsSet,
    to_capacity_response,
    to_pools_response,
)
from headgate.api.schemas.fields import Empty
from headgate.capacity.model.pools import PoolsNotFoundError, PriorityPools
from headgate.relay.capacity_limits import CREDENTIAL, KEY, RESOURCE, CapacityEntry, read_limits

OPERATIONS = Operations(
    "Capacity",
    "What is used of the limits of keys and connections, and the priority pools in which the "
    "resources and keys of a project share the tokens per minute of a connection.",
)


@OPERATIONS.get(
    "/api/api-keys/{key_id}/capacity",
    access=organization("keys:read"),
    summary="Read the used capacity of an API key",
)
async def get_key_capacity(context: RequestContext[Empty, Empty]) -> CapacityResponse:
    """Return what is used of the limits in the `capacity` of an API key, whether they are enforced
    or not; only enforced limits count."""
    key = await context.read(lambda connection: find_key(context, connection))
    limits = read_limits(key.capacity)
    return to_capacity_response(context.services.capacity.list_usage(KEY, key.id, limits))


@OPERATIONS.get(
    "/api/connections/{credential_id}/capacity",
    access=organization("credentials:read"),
    summary="Read the used capacity of a connection",
)
async def get_connection_capacity(context: RequestContext[Empty, Empty]) -> CapacityResponse:
    """Return what is used of the limits in the `capacity` of a connection."""
    record = await context.read(lambda connection: find_connection(context, connection))
    limits = read_limits(msgspec.convert(record.capacity, list[CapacityEntry]))
    return to_capacity_response(context.services.capacity.list_usage(CREDENTIAL, record.id, limits))


@OPERATIONS.get(
    "/api/resources/{resource_id}/capacity",
    access=organization("resources:read"),
    summary="Read the used capacity of a resource",
)
async def get_resource_capacity(context: RequestContext[Empty, Empty]) -> CapacityResponse:
    """Return what is used of the limits in the `capacity` of a resource, whether they are enforced
    or not; only enforced limits count."""
    resource = await context.read(lambda connection: find_resource(context, connection))
    limits = read_limits(resource.config.capacity)
    return to_capacity_response(context.services.capacity.list_usage(RESOURCE, resource.id, limits))


@OPERATIONS.get(
    "/api/projects/{project_id}/priority-pools",
    access=organization("projects:read"),
    summary="Read the priority pools of a project",
)
async def get_priority_pools(context: RequestContext[Empty, Empty]) -> PoolsResponse:
    """Return the priority pools of a project. 404 if it has none."""
    return to_pools_response(await context.read(lambda connection: find(context, connection)))


@OPERATIONS.put(
    "/api/projects/{project_id}/priority-pools",
    access=organization("projects:write"),
    summary="Set the priority pools of a project",
    example={
        "pools": [
            {"name": "chat", "rank": 0, "min_reservation": 50, "resources": ["support-chat"]},
            {"name": "batch", "rank": 1, "max_reservation": 50, "resources": ["documents"]},
        ]
    },
)
async def set_priority_pools(context: RequestContext[Empty, PoolsSet]) -> PoolsResponse:
    """Replace the priority pools of a project. They take effect in every process within a second,
    and begin with their least reservations."""

    def put(connection: sa.Connection) -> PoolsResponse:
        project = find_project(context, connection)
        context.check_version(find_replaced(context, connection))
        pools = context.services.pools.set(
            connection,
            organization_id=context.organization_id,
            project_id=project.id,
            pools=context.body.pools,
            by=context.actor,
        )
        return to_pools_response(pools)

    return await context.write(put)


@OPERATIONS.delete(
    "/api/projects/{project_id}/priority-pools",
    access=organization("projects:write"),
    status=204,
    summary="Remove the priority pools of a project",
)
async def remove_priority_pools(context: RequestContext[Empty, Empty]) -> None:
    """Remove the priority pools of a project: its calls share their connections freely."""

    def remove(connection: sa.Connection) -> None:
        pools = context.check_version(find(context, connection))
        context.services.pools.remove(connection, pools, by=context.actor)

    await context.write(remove)


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> PriorityPools:
    """Return the pools of the project of the path. Raise `PoolsNotFoundError`."""
    project = find_project(context, connection)
    return context.services.pools.get(connection, project.id)


def find_replaced(context: RequestContext[Any, Any], connection: sa.Connection) -> PriorityPools:
    """Return the pools that new ones replace; pools of version 0 if there are none."""
    try:
        return find(context, connection)
    except PoolsNotFoundError:
        return PriorityPools(project_id="", organization_id="", pools=(), version=0)
