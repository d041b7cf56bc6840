"""MCP servers of an organization: register them, judge their tools, and store tokens for them."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from msgspec import UNSET

from headgate.accounts.model import Role
from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.principal import PrincipalKind
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.mcp_servers import (
    McpCredentialCreate,
    McpServerCreate,
    McpServerDetailsResponse,
    McpServerPage,
    McpServerUpdate,
    McpTokenRequest,
    McpToolApproval,
    McpToolApprovals,
    McpToolList,
    McpToolPage,
    McpToolResponse,
    to_mcp_server_details,
    to_mcp_server_response,
    to_mcp_tool_response,
)
from headgate.api.schemas.pages import PageQuery
from headgate.mcp_servers.model.errors import McpServerBusyError
from headgate.mcp_servers.model.server import McpServer, McpServerRequest
from headgate.mcp_servers.model.tool import PinnedTool

OPERATIONS = Operations(
    "MCP servers", "MCP servers whose tools agents of the organization call through the gateway."
)
READ = organization("mcp_servers:read", roles=frozenset(Role))
WRITE = organization("mcp_servers:write")
OWN_TOKEN = organization("", roles=frozenset(Role))
_ALL = "/api/mcp-servers"
_ONE = "/api/mcp-servers/{mcp_server_id}"
_TOOL = f"{_ONE}/tools/{{mcp_tool_name}}"
_EXAMPLE = {
    "name": "tracker",
    "url": "https://mcp.example/mcp",
    "headers": {"Authorization": "Bearer {{vault:tracker}}"},
}
_HASH = "9f86d081884c7d659a2feaa0c55ad015a3bf4f1b2b0b822cd15d6c15b0f00a08"


@OPERATIONS.post(
    _ALL,
    access=WRITE,
    status=201,
    summary="Register an MCP server",
    errors=(409,),
    example=_EXAMPLE,
)
async def create_mcp_server(
    context: RequestContext[Empty, McpServerCreate],
) -> McpServerDetailsResponse:
    """Register a server by its address, and ask it for its tools. If that fails, the reason is in
    `discovery_error`, and it is tried again later. New tools wait for an approval, unless
    `approve_first_discovery` is true. Nothing is ever started on this machine: a `command` is
    refused."""
    return await register(context, context.body.to_request(context.organization_id))


@OPERATIONS.get(_ALL, access=READ, summary="List MCP servers")
async def list_mcp_servers(context: RequestContext[PageQuery, Empty]) -> McpServerPage:
    """Return the MCP servers of the organization, by name, without their secrets."""
    context.principal.check_organization_wide()
    query = context.query
    servers, total = await context.read(
        lambda connection: context.services.mcp_servers.list(
            connection, context.organization_id, limit=query.limit, offset=query.offset
        )
    )
    responses = [to_mcp_server_response(each) for each in servers]
    return McpServerPage(servers=responses, **query.position(total))


@OPERATIONS.get(_ONE, access=READ, summary="Read an MCP server")
async def get_mcp_server(context: RequestContext[Empty, Empty]) -> McpServerDetailsResponse:
    """Return one server, with how many of its tools are approved, and how many wait for it."""
    context.principal.check_organization_wide()
    return await context.read(
        lambda connection: show(context, connection, find(context, connection))
    )


@OPERATIONS.patch(
    _ONE,
    access=WRITE,
    summary="Change an MCP server",
    errors=(409,),
    example={"timeout_seconds": 30},
)
async def update_mcp_server(
    context: RequestContext[Empty, McpServerUpdate],
) -> McpServerDetailsResponse:
    """Change the given fields, or disable or enable the server. Headers and tokens are bound to the
    address: with another one, give the headers again; its tools have to be approved again, too."""
    context.principal.check_organization_wide()
    body = context.body
    changes = body.list_changes()

    def change(connection: sa.Connection) -> McpServerDetailsResponse:
        server = context.check_version(find(context, connection))
        server = context.services.mcp_servers.update(
            connection,
            server,
            changes,
            headers=None if body.headers is UNSET else body.headers,
            enabled=None if body.enabled is UNSET else body.enabled,
            by=context.actor,
        )
        return show(context, connection, server)

    return await context.write(change)


@OPERATIONS.delete(_ONE, access=WRITE, status=204, summary="Delete an MCP server")
async def delete_mcp_server(context: RequestContext[Empty, Empty]) -> None:
    """Delete the server with its secrets and its tools. Its tools disappear at once."""
    context.principal.check_organization_wide()

    def delete(connection: sa.Connection) -> None:
        server = context.check_version(find(context, connection))
        context.services.mcp_servers.delete(connection, server, by=context.actor)

    await context.write(delete)


@OPERATIONS.post(f"{_ONE}/refresh", access=WRITE, summary="Refresh an MCP server")
async def refresh_mcp_server(context: RequestContext[Empty, Empty]) -> McpServerDetailsResponse:
    """Ask the server for its tools again. A tool whose definition changed is blocked until the
    change is approved. A server that takes tokens of people is asked with yours."""
    context.principal.check_organization_wide()
    return await refresh(context, context.path["mcp_server_id"])


@OPERATIONS.get(f"{_ONE}/tools", access=READ, summary="List the tools of an MCP server")
async def list_mcp_server_tools(context: RequestContext[PageQuery, Empty]) -> McpToolPage:
    """Return the tools of a server, by name, with their definitions, and with what changed in those
    that were approved before."""
    context.principal.check_organization_wide()
    return await list_tools(context)


@OPERATIONS.get(_TOOL, access=READ, summary="Read a tool of an MCP server")
async def get_mcp_tool(context: RequestContext[Empty, Empty]) -> McpToolResponse:
    """Return one tool with its definition. The path has its name, or the name that agents see."""
    context.principal.check_organization_wide()

    def read(connection: sa.Connection) -> McpToolResponse:
        server = find(context, connection)
        return to_mcp_tool_response(server, find_tool(context, connection, server))

    return await context.read(read)


@OPERATIONS.post(
    f"{_TOOL}/approve",
    access=WRITE,
    summary="Approve a tool of an MCP server",
    errors=(409,),
    example={"hash": _HASH},
)
async def approve_mcp_tool(
    context: RequestContext[Empty, McpToolApproval],
) -> McpToolResponse:
    """Pin the definition that the tool has now. `hash` is that of the definition that you judged:
    if it changed meanwhile, nothing is approved."""
    context.principal.check_organization_wide()
    name, expected = context.path["mcp_tool_name"], context.body.hash

    def approve(connection: sa.Connection) -> McpToolResponse:
        server = find(context, connection)
        [tool] = context.services.mcp_tools.approve(
            connection, server, {name: expected}, by=context.actor
        )
        return to_mcp_tool_response(server, tool)

    return await context.write(approve)


@OPERATIONS.post(
    f"{_ONE}/tools/approve",
    access=WRITE,
    summary="Approve tools of an MCP server",
    errors=(409,),
    example={"tools": {"create_issue": _HASH}},
)
async def approve_mcp_tools(
    context: RequestContext[Empty, McpToolApprovals],
) -> McpToolList:
    """Pin the definitions that several tools have now, all of them or none."""
    context.principal.check_organization_wide()
    hashes = context.body.tools

    def approve(connection: sa.Connection) -> McpToolList:
        server = find(context, connection)
        tools = context.services.mcp_tools.approve(connection, server, hashes, by=context.actor)
        return McpToolList(tools=[to_mcp_tool_response(server, each) for each in tools])

    return await context.write(approve)


@OPERATIONS.post(f"{_TOOL}/block", access=WRITE, summary="Block a tool of an MCP server")
async def block_mcp_tool(context: RequestContext[Empty, Empty]) -> McpToolResponse:
    """Hide a tool from all agents, whatever its definition, until it is approved again."""
    context.principal.check_organization_wide()
    name = context.path["mcp_tool_name"]

    def block(connection: sa.Connection) -> McpToolResponse:
        server = find(context, connection)
        tool = context.services.mcp_tools.block(connection, server, name, by=context.actor)
        return to_mcp_tool_response(server, tool)

    return await context.write(block)


@OPERATIONS.put(
    f"{_ONE}/token",
    access=OWN_TOKEN,
    status=204,
    summary="Store your token for an MCP server",
    example={"token": "EXAMPLE-0123456789abcdef"},
    is_versioned=False,
)
async def store_mcp_server_token(context: RequestContext[Empty, McpTokenRequest]) -> None:
    """Store the token with which your own calls reach a server whose `authentication` is `person`.
    It is sealed, sent to that server only, and never shown."""

    def store(connection: sa.Connection) -> None:
        server = find(context, connection)
        context.services.mcp_servers.put_token(
            connection, server, context.principal.id, context.body.token, by=context.actor
        )

    await context.write(store)


@OPERATIONS.delete(
    f"{_ONE}/token",
    access=OWN_TOKEN,
    status=204,
    summary="Delete your token for an MCP server",
    is_versioned=False,
)
async def delete_mcp_server_token(context: RequestContext[Empty, Empty]) -> None:
    """Delete your token for a server. Without one there is nothing to delete, and that is fine."""

    def remove(connection: sa.Connection) -> None:
        server = find(context, connection)
        context.services.mcp_servers.remove_token(
            connection, server, context.principal.id, by=context.actor
        )

    await context.write(remove)


@OPERATIONS.post(
    "/api/credentials/mcp-server",
    access=WRITE,
    status=201,
    summary="Register an MCP server as a credential",
    errors=(409,),
    example={"server_url": "https://mcp.example/mcp", "display_name": "Team notes"},
)
async def create_mcp_server_credential(
    context: RequestContext[Empty, McpCredentialCreate],
) -> McpServerDetailsResponse:
    """Register a server as `POST /api/mcp-servers` does. The tools of its first discovery are
    approved at once, unless `approve_first_discovery` is false."""
    return await register(context, context.body.to_request(context.organization_id))


@OPERATIONS.post(
    "/api/credentials/{mcp_server_id}/refresh-discovery",
    access=WRITE,
    summary="Refresh the tools of an MCP credential",
)
async def refresh_mcp_server_credential(
    context: RequestContext[Empty, Empty],
) -> McpServerDetailsResponse:
    """Ask the server for its tools again, as `POST /api/mcp-servers/{mcp_server_id}/refresh`
    does."""
    context.principal.check_organization_wide()
    return await refresh(context, context.path["mcp_server_id"])


@OPERATIONS.get(
    "/api/credentials/{mcp_server_id}/mcp-tools",
    access=READ,
    summary="List the tools of an MCP credential",
)
async def list_mcp_server_credential_tools(
    context: RequestContext[PageQuery, Empty],
) -> McpToolPage:
    """Return the tools of a server, as `GET /api/mcp-servers/{mcp_server_id}/tools` does."""
    context.principal.check_organization_wide()
    return await list_tools(context)


async def register(
    context: RequestContext[Any, Any], request: McpServerRequest
) -> McpServerDetailsResponse:
    context.principal.check_organization_wide()
    services = context.services
    made = await context.create(
        lambda connection: show(
            context, connection, services.mcp_servers.create(connection, request, by=context.actor)
        )
    )
    try:
        return await refresh(context, made.id)
    except McpServerBusyError:
        # It is registered all the same; the background job asks it.
        return made


async def refresh(context: RequestContext[Any, Any], server_id: str) -> McpServerDetailsResponse:
    """Discover the tools of a server of the organization. Raise `McpServerNotFoundError` and
    `McpServerBusyError`."""
    owner, services = context.organization_id, context.services
    await context.read(lambda connection: services.mcp_servers.get(connection, owner, server_id))
    principal = context.principal
    server = await services.mcp_discoverer.refresh(
        owner,
        server_id,
        person_id=principal.id if principal.kind is PrincipalKind.PERSON else None,
        by=context.actor,
    )
    return await context.read(lambda connection: show(context, connection, server))


async def list_tools(context: RequestContext[PageQuery, Any]) -> McpToolPage:
    query = context.query

    def read(connection: sa.Connection) -> McpToolPage:
        server = find(context, connection)
        tools, total = context.services.mcp_tools.list(
            connection, server, limit=query.limit, offset=query.offset
        )
        responses = [to_mcp_tool_response(server, each) for each in tools]
        return McpToolPage(tools=responses, **query.position(total))

    return await context.read(read)


def show(
    context: RequestContext[Any, Any], connection: sa.Connection, server: McpServer
) -> McpServerDetailsResponse:
    counts = context.services.mcp_tools.count_by_status(connection, server)
    return to_mcp_server_details(server, counts)


def find(context: RequestContext[Any, Any], connection: sa.Connection) -> McpServer:
    """Return the server of the path. Raise `McpServerNotFoundError`."""
    return context.services.mcp_servers.get(
        connection, context.organization_id, context.path["mcp_server_id"]
    )


def find_tool(
    context: RequestContext[Any, Any], connection: sa.Connection, server: McpServer
) -> PinnedTool:
    """Return the tool of the path. Raise `McpToolNotFoundError`."""
    return context.services.mcp_tools.get(connection, server, context.path["mcp_tool_name"])
