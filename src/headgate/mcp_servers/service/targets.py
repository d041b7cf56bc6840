"""What a call of a server needs, and what speaks the protocol with it."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, Protocol, cast

import msgspec

from headgate.connectors.model.tool import ReportProgress, ToolResult
from headgate.kit.http.message import Client, Origin
from headgate.kit.lazy import LazyLoader
from headgate.mcp_servers.model.definition import ToolDefinitionRecord
from headgate.mcp_servers.model.tool import Discovery

SDK_MODULE = "headgate.mcp_servers.service.sdk"


class McpTarget(msgspec.Struct, frozen=True, kw_only=True):
    """Hold where and how one server is called. `protocol_version` is empty where it is not known;
    `secrets` must not come back in an answer."""

    origin: Origin
    target: bytes
    headers: Mapping[str, str]
    timeout_seconds: float
    protocol_version: str = ""
    secrets: tuple[str, ...] = ()

    def __repr__(self) -> str:
        return f"McpTarget({self.origin})"

    @property
    def url(self) -> str:
        return f"{self.origin}{self.target.decode()}"

    def with_unknown_version(self) -> McpTarget:
        """Return this target with its era left to be asked for."""
        return msgspec.structs.replace(self, protocol_version="")


class McpCallLimits(msgspec.Struct, frozen=True):
    """Bound what a server may send: bytes in one answer; tools, pages and bytes of definitions in
    one discovery, since every process keeps these in memory."""

    answer_bytes_max: int = 8 * 1024 * 1024
    tools_max: int = 200
    pages_max: int = 20
    definition_bytes_max: int = 1024 * 1024


class McpClient(Protocol):
    """Speak MCP with a server, as a client of either era."""

    async def discover(self, target: McpTarget) -> Discovery:
        """Return the server's tools. Whatever fails is in `Discovery.error`."""
        ...

    async def call(
        self,
        target: McpTarget,
        tool: ToolDefinitionRecord,
        arguments: dict[str, Any],
        report_progress: ReportProgress,
    ) -> ToolResult:
        """Return what a tool answered. Raise `McpServerFailedError` and
        `McpServerTimedOutError`."""
        ...


class LazyMcpClient:
    """Implement `McpClient` on the official SDK, which is imported at the first use, in a thread:
    the import takes most of a second, and few processes need it."""

    def __init__(self, client: Client, limits: McpCallLimits) -> None:
        self._client = client
        self._limits = limits
        self._loader = LazyLoader(self._load)

    async def discover(self, target: McpTarget) -> Discovery:
        return await (await self._loader.get()).discover(target)

    async def call(
        self,
        target: McpTarget,
        tool: ToolDefinitionRecord,
        arguments: dict[str, Any],
        report_progress: ReportProgress,
    ) -> ToolResult:
        return await (await self._loader.get()).call(target, tool, arguments, report_progress)

    def _load(self) -> McpClient:
        module = importlib.import_module(SDK_MODULE)
        return cast(McpClient, module.SdkMcpClient(self._client, self._limits))
