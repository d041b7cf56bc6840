"""Wires the MCP servers of organizations: their own egress client, discovery, and tools."""

from __future__ import annotations

import msgspec

from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.http.message import Client
from headgate.kit.jobs import Job, run_jobs
from headgate.main.application import Application
from headgate.mcp_servers.jobs import INTERVAL_SECONDS, McpRefresher
from headgate.mcp_servers.service import (
    LazyMcpClient,
    McpCallLimits,
    McpClient,
    McpDiscoverer,
    McpServerTools,
    ToolCallReceipts,
)


class McpServerParts(msgspec.Struct, frozen=True):
    """Hold what calls MCP servers. They are one for the process: the limits count in them."""

    client: McpClient
    discoverer: McpDiscoverer
    refresher: McpRefresher

    async def run(self) -> None:
        """Refresh what servers offer until cancelled."""
        await run_jobs(
            [
                Job(
                    name="refresh_mcp_servers",
                    run=self.refresher.run,
                    period_seconds=INTERVAL_SECONDS,
                )
            ]
        )


def build_mcp_servers(
    application: Application, storage: AsyncDatabase, client: Client
) -> McpServerParts:
    """Build what calls the MCP servers of organizations. `client` should serve nothing else, so
    that these servers take no connection away from providers."""
    settings = application.settings
    mcp_client = LazyMcpClient(
        client,
        McpCallLimits(
            answer_bytes_max=settings.mcp_server_answer_bytes_max,
            tools_max=settings.mcp_server_tools_max,
        ),
    )
    discoverer = McpDiscoverer(
        storage,
        application.mcp_server_index,
        mcp_client,
        servers=application.mcp_servers,
        tools=application.mcp_tools,
    )
    refresher = McpRefresher(storage, discoverer, application.clock)
    return McpServerParts(mcp_client, discoverer, refresher)


def build_mcp_server_tools(
    application: Application, parts: McpServerParts, receipts: ToolCallReceipts
) -> McpServerTools:
    """Build the source of tools for agents."""
    settings = application.settings
    return McpServerTools(
        application.mcp_server_index,
        parts.client,
        receipts,
        clock=application.clock,
        requests_per_minute=settings.mcp_server_requests_per_minute,
        concurrent_max=settings.mcp_server_calls_max,
    )
