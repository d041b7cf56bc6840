"""Background work of MCP servers: refresh what they offer."""

from __future__ import annotations

import asyncio

import structlog

from headgate.audit.model import SYSTEM
from headgate.kit.clock import Clock
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.errors import HeadgateError
from headgate.mcp_servers.model.server import McpAuthentication, McpServer
from headgate.mcp_servers.service.discoverer import SECONDS_MAX, McpDiscoverer
from headgate.mcp_servers.store import servers as server_store

INTERVAL_SECONDS = 5.0
SERVERS_AT_ONCE = 8

log = structlog.get_logger(__name__)


class McpRefresher:
    """Discover again the servers whose refresh is due. Of several processes, one does each."""

    def __init__(self, storage: AsyncDatabase, discoverer: McpDiscoverer, clock: Clock) -> None:
        self._storage = storage
        self._discoverer = discoverer
        self._clock = clock

    async def run(self) -> int:
        """Refresh the servers that are due now, some at once; return how many."""
        now = self._clock.now()
        due = await self._storage.read(
            lambda connection: server_store.select_due(connection, now, limit=SERVERS_AT_ONCE)
        )
        if not due:
            return 0
        until = now + 2 * SECONDS_MAX
        taken = await self._storage.write(
            lambda connection: [
                each for each in due if server_store.claim_refresh(connection, each, until=until)
            ]
        )
        await asyncio.gather(*map(self._refresh, taken))
        return len(taken)

    async def _refresh(self, server: McpServer) -> None:
        if server.authentication is McpAuthentication.PERSON:
            # Nobody's token is used behind their back: people refresh such a server themselves.
            await self._storage.write(
                lambda connection: server_store.put_off_refresh(connection, server)
            )
            return
        try:
            found = await self._discoverer.refresh(None, server.id, person_id=None, by=SYSTEM)
        except HeadgateError as error:
            # It was removed meanwhile, or others of its organization are being asked: later.
            log.warning("mcp_servers.not_refreshed", server=server.id, error=error.message)
            return
        log.info("mcp_servers.refreshed", server=server.id, error=found.discovery_error or None)
