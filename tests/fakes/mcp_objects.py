"""Registered MCP servers with a tool, for tests of who may see them."""

from __future__ import annotations

from typing import Any

from headgate.audit.model import SYSTEM
from headgate.mcp_servers.model.definition import ToolDefinitionRecord, hash_definition
from headgate.mcp_servers.model.server import McpAuthentication, McpServerRequest
from headgate.mcp_servers.model.tool import Discovery
from tests.fakes.api import Api, Tenant

TOOL = "create_issue"
DEFINITION = ToolDefinitionRecord(name=TOOL, input_schema={"type": "object"})
ADDRESS = "https://127.0.0.1:4999/mcp"
"""Nobody listens there."""


def add_mcp_server(api: Api, tenant: Tenant) -> str:
    """Register a server that takes tokens of people and has offered one tool."""
    application = api.application
    with application.database.transaction() as connection:
        _, total = application.mcp_servers.list(connection, tenant.organization_id, limit=1)
        request = McpServerRequest(
            organization_id=tenant.organization_id,
            name=f"server-{total}",
            url=ADDRESS,
            authentication=McpAuthentication.PERSON,
        )
        server = application.mcp_servers.create(connection, request, by=SYSTEM)
        discovery = Discovery(protocol_version="2026-07-28", definitions=(DEFINITION,))
        application.mcp_tools.record(connection, server, discovery, by=SYSTEM)
    return server.id


def write_approval(_api: Api) -> dict[str, Any]:
    return {"hash": hash_definition(DEFINITION)}


def write_approvals(_api: Api) -> dict[str, Any]:
    return {"tools": {TOOL: hash_definition(DEFINITION)}}
