"""Pinned tools: record what a server offers, show what changed, approve or block it."""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence
from typing import Any

import sqlalchemy as sa
from msgspec.structs import replace

from headgate.audit.model import SYSTEM, Actor
from headgate.audit.service import AuditLog
from headgate.kit.clock import Clock
from headgate.mcp_servers.model.errors import McpToolChangedError, McpToolNotFoundError
from headgate.mcp_servers.model.server import McpServer
from headgate.mcp_servers.model.tool import Discovery, DiscoveryChanges, PinnedTool, ToolStatus, pin
from headgate.mcp_servers.service.audit_events import record_event
from headgate.mcp_servers.store import servers as server_store
from headgate.mcp_servers.store import tools as tool_store

KNOWN_TOOLS_MAX = 2_000
"""Tools that are kept of one server, with those that it does not offer any more."""
ERROR_SECONDS = 300.0
"""A server whose discovery failed is asked again after this time, or its usual one if shorter."""


class McpToolService:
    """Manage the tools of registered servers. The caller commits."""

    def __init__(self, *, clock: Clock, audit: AuditLog, refresh_seconds: float) -> None:
        self._clock = clock
        self._audit = audit
        self._refresh_seconds = refresh_seconds

    def record(
        self, connection: sa.Connection, server: McpServer, discovery: Discovery, *, by: Actor
    ) -> McpServer:
        """Store what a discovery found. Approved tools stay callable while their definitions stay
        the same; after a failure everything stays as it was."""
        now = self._clock.now()
        if discovery.error:
            wait = min(ERROR_SECONDS, self._refresh_seconds)
            values: dict[str, Any] = {
                "discovery_error": discovery.error,
                "refresh_at": now + wait,
            }
            server_store.update_discovery(connection, server, values)
            if by is not SYSTEM:
                shown = {"error": discovery.error}
                record_event(self._audit, connection, by, "mcp_server.refreshed", server, shown)
            return replace(server, **values)
        values = {
            "protocol_version": discovery.protocol_version,
            "server_title": discovery.title,
            "server_version": discovery.version,
            "skipped": discovery.skipped,
            "discovery_error": "",
            "discovered_at": now,
            "refresh_at": now + self._refresh_seconds,
        }
        # First: concurrent discoveries wait here, and then read these tools.
        server_store.update_discovery(connection, server, values)
        changes = self._pin(connection, server, discovery, now, by)
        # Most discoveries find what is known; then no process has to read all servers again.
        if changes.is_other or discovery.protocol_version != server.protocol_version:
            server_store.note_change(connection)
        # What nobody asked for is only told where something differs.
        if by is not SYSTEM or changes.new or changes.changed or changes.missing:
            shown = {"new": changes.new, "changed": changes.changed, "missing": changes.missing}
            record_event(self._audit, connection, by, "mcp_server.refreshed", server, shown)
        return replace(server, **values)

    def _pin(
        self,
        connection: sa.Connection,
        server: McpServer,
        discovery: Discovery,
        now: float,
        by: Actor,
    ) -> DiscoveryChanges:
        known, _ = tool_store.select_tools(connection, server, limit=KNOWN_TOOLS_MAX)
        template = PinnedTool(
            id=f"mcpt_{secrets.token_hex(12)}",
            organization_id=server.organization_id,
            server_id=server.id,
            name="",
            approved_by=by.id,
            first_seen_at=now,
            last_seen_at=now,
        )
        approves = server.approve_first and server.discovered_at is None
        changes = pin(
            {each.name: each for each in known},
            discovery.definitions,
            template,
            approves=approves,
        )
        for each in changes.added:
            tool_store.insert_tool(connection, each)
        for each in changes.updated:
            tool_store.update_tool(connection, each)
        gone = [each for each in known if each.offered is None and each.approved is None]
        for each in gone if len(known) >= KNOWN_TOOLS_MAX // 2 else ():
            tool_store.delete_tool(connection, each)
        return changes

    def list(
        self, connection: sa.Connection, server: McpServer, *, limit: int, offset: int = 0
    ) -> tuple[list[PinnedTool], int]:
        """Return a page of the tools of a server, by name, and the total."""
        return tool_store.select_tools(connection, server, limit=limit, offset=offset)

    def get(self, connection: sa.Connection, server: McpServer, text: str) -> PinnedTool:
        """Return a tool by its id, its name, or the name that agents see. Raise
        `McpToolNotFoundError`."""
        found = tool_store.find_tool(connection, server, text)
        if found is not None:
            return found
        tools, _ = tool_store.select_tools(connection, server, limit=KNOWN_TOOLS_MAX)
        for each in tools:
            if text in (each.id, each.make_name(server.name)):
                return each
        raise McpToolNotFoundError(f"The MCP server {server.name!r} has no tool {text[:64]!r}.")

    def approve(
        self,
        connection: sa.Connection,
        server: McpServer,
        hashes: Mapping[str, str],
        *,
        by: Actor,
    ) -> Sequence[PinnedTool]:
        """Pin the definitions that tools have now: all of them, or none. `hashes` are those of the
        definitions that were judged, by the names of the tools.

        Raise `McpToolNotFoundError`, and `McpToolChangedError` for a tool whose definition is not
        that one any more.
        """
        server_store.lock_server(connection, server)
        server_store.note_change(connection)
        approved: list[PinnedTool] = []
        now = self._clock.now()
        for name, expected in hashes.items():
            tool = self.get(connection, server, name)
            if tool.offered is None:
                raise McpToolNotFoundError(f"The server does not offer {tool.name!r} any more.")
            if tool.hash != expected:
                raise McpToolChangedError(
                    f"The definition of {tool.name!r} has the hash {tool.hash} now. Read it again."
                )
            tool = replace(
                tool, approved=tool.offered, is_blocked=False, approved_by=by.id, approved_at=now
            )
            tool_store.update_tool(connection, tool)
            changes = {"tool": tool.name, "hash": expected}
            record_event(self._audit, connection, by, "mcp_tool.approved", server, changes)
            approved.append(tool)
        return approved

    def block(
        self, connection: sa.Connection, server: McpServer, name: str, *, by: Actor
    ) -> PinnedTool:
        """Block a tool until it is approved again. Raise `McpToolNotFoundError`."""
        server_store.lock_server(connection, server)
        server_store.note_change(connection)
        tool = self.get(connection, server, name)
        if tool.is_blocked:
            return tool
        tool = replace(tool, is_blocked=True)
        tool_store.update_tool(connection, tool)
        record_event(self._audit, connection, by, "mcp_tool.blocked", server, {"tool": tool.name})
        return tool

    def list_unapproved(self, connection: sa.Connection, server: McpServer) -> list[PinnedTool]:
        """Return the tools that wait for an approval, by name."""
        tools, _ = tool_store.select_tools(connection, server, limit=KNOWN_TOOLS_MAX)
        waiting = (ToolStatus.PENDING, ToolStatus.CHANGED)
        return [each for each in tools if each.status in waiting]

    def count_by_status(self, connection: sa.Connection, server: McpServer) -> dict[str, int]:
        """Return how many tools of a server have each status."""
        tools, _ = tool_store.select_tools(connection, server, limit=KNOWN_TOOLS_MAX)
        counts = {each.value: 0 for each in ToolStatus}
        for each in tools:
            counts[each.status.value] += 1
        return counts
