"""Asks servers for their tools: at registration, on request, and from time to time."""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Generator

import sqlalchemy as sa

from headgate.audit.model import Actor
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.errors import HeadgateError
from headgate.mcp_servers.model.errors import McpServerBusyError
from headgate.mcp_servers.model.server import McpServer
from headgate.mcp_servers.model.tool import Discovery
from headgate.mcp_servers.service.index import McpRoute, McpServerIndex
from headgate.mcp_servers.service.pins import McpToolService
from headgate.mcp_servers.service.servers import McpServerService
from headgate.mcp_servers.service.targets import McpClient
from headgate.mcp_servers.service.tool_source import build_target
from headgate.mcp_servers.store import servers as server_store

SECONDS_MAX = 30.0
"""A discovery ends after this time, however much time calls of the server have."""
AT_ONCE_MAX = 4
"""Discoveries of one organization that one process makes at the same time."""


class McpDiscoverer:
    """Discover the tools of one server, and store what was found."""

    def __init__(
        self,
        storage: AsyncDatabase,
        index: McpServerIndex,
        client: McpClient,
        *,
        servers: McpServerService,
        tools: McpToolService,
    ) -> None:
        self._storage = storage
        self._index = index
        self._client = client
        self._servers = servers
        self._tools = tools
        self._running: Counter[str] = Counter()

    async def refresh(
        self, organization_id: str | None, server_id: str, *, person_id: str | None, by: Actor
    ) -> McpServer:
        """Discover the tools of a server again; failures are in `discovery_error`. Raise
        `McpServerNotFoundError` and `McpServerBusyError`.

        A server that takes tokens of people is asked with that of `person_id`.
        """
        route = self._index.find(server_id)
        discovery = await self._discover(route, person_id)

        def store(connection: sa.Connection) -> McpServer:
            server = self._servers.get(connection, organization_id, server_id)
            server_store.lock_server(connection, server)
            server = self._servers.get(connection, organization_id, server_id)
            # What another address said is nothing that this one offers: it is asked next.
            has_moved = route is not None and route.server.url != server.url
            if server.disabled_at is not None or has_moved:
                return server
            return self._tools.record(connection, server, discovery, by=by)

        return await self._storage.write(store)

    async def _discover(self, route: McpRoute | None, person_id: str | None) -> Discovery:
        if route is None:
            return Discovery(error="The server is disabled.")
        try:
            target = build_target(route, person_id, SECONDS_MAX)
        except HeadgateError as error:
            return Discovery(error=error.message)
        with self._take_place(route.server.organization_id):
            # The era is asked anew: a server that was upgraded speaks the newer one.
            return await self._client.discover(target.with_unknown_version())

    @contextlib.contextmanager
    def _take_place(self, organization_id: str) -> Generator[None]:
        """Count a discovery. Raise `McpServerBusyError`."""
        if self._running[organization_id] >= AT_ONCE_MAX:
            raise McpServerBusyError(
                f"{AT_ONCE_MAX} MCP servers are being asked for their tools. Wait for them.",
                retry_after_seconds=5.0,
            )
        self._running[organization_id] += 1
        try:
            yield
        finally:
            self._running[organization_id] -= 1
            if not self._running[organization_id]:
                del self._running[organization_id]
