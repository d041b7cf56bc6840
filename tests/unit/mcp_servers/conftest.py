"""A database with one registered server, and what calls its tools."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from headgate.audit.model import SYSTEM, Actor, ActorKind
from headgate.audit.service import AuditLog
from headgate.connectors.model.caller import ToolCaller
from headgate.connectors.model.tool import ReportProgress, ToolCall, ToolResult, report_nothing
from headgate.connectors.service.action_receipts import OutgoingCall
from headgate.kit.http.client import HttpClient
from headgate.kit.http.guard import EgressRules, Guard, parse_rule
from headgate.mcp_servers.model.server import McpServer, McpServerRequest
from headgate.mcp_servers.service import (
    LazyMcpClient,
    McpCallLimits,
    McpServerIndex,
    McpServerService,
    McpServerTools,
    McpToolService,
)
from headgate.mcp_servers.service.tool_source import build_target
from headgate.oauth.model.scope import SCOPES
from headgate.relay.ports import Grant
from tests.fakes.mcp_server import FakeMcpServer, running_mcp_server
from tests.fakes.vault import VaultHarness

RULES = EgressRules(parse_rule(["127.0.0.0/8"]))


@dataclass
class KeptReceipts:
    """Keep what is recorded."""

    calls: list[OutgoingCall] = field(default_factory=list[OutgoingCall])
    deferred: list[OutgoingCall] = field(default_factory=list[OutgoingCall])

    def check(self) -> None:
        pass

    async def record(self, caller: ToolCaller, call: OutgoingCall) -> None:
        assert caller
        self.calls.append(call)

    def defer(self, caller: ToolCaller, call: OutgoingCall) -> None:
        assert caller
        self.deferred.append(call)


class McpHarness(VaultHarness):
    """Hold a vault, and the services of MCP servers on it."""

    def __init__(self, path: Path | str) -> None:
        super().__init__(path)
        audit = AuditLog(self.clock)
        self.servers = McpServerService(
            self.sealer,
            egress_rules=RULES,
            clock=self.clock,
            audit=audit,
            servers_max=10,
        )
        self.tools = McpToolService(clock=self.clock, audit=audit, refresh_seconds=3600)
        self.index = McpServerIndex()

    def register(self, server: FakeMcpServer, **more: Any) -> McpServer:
        given: dict[str, Any] = {"name": "tracker", "approve_first": True, **more}
        request = McpServerRequest(organization_id=self.own, url=server.url, **given)
        with self.database.transaction() as connection:
            made = self.servers.create(connection, request, by=SYSTEM)
        self.load()
        return made

    def load(self) -> None:
        with self.database.reading() as connection:
            self.index.load(connection, self.sealer)

    async def discover(
        self, client: LazyMcpClient, made: McpServer, person_id: str | None = None
    ) -> McpServer:
        """Ask a server for its tools, and store them."""
        route = self.index.find(made.id)
        assert route is not None
        discovery = await client.discover(build_target(route, person_id).with_unknown_version())
        with self.database.transaction() as connection:
            made = self.servers.get(connection, None, made.id)
            made = self.tools.record(connection, made, discovery, by=SYSTEM)
        self.load()
        return made


@dataclass
class Bench:
    """Hold a source of tools with all around it."""

    vault: McpHarness
    server: FakeMcpServer
    http: HttpClient
    client: LazyMcpClient
    receipts: KeptReceipts
    source: McpServerTools
    made: McpServer
    person_id: str = ""

    @property
    def caller(self) -> ToolCaller:
        kind = ActorKind.PERSON if self.person_id else ActorKind.KEY
        return ToolCaller(
            grant=Grant("key_1", self.vault.own, "proj_1"),
            scopes=frozenset(SCOPES),
            actor=Actor(kind, self.person_id or "key_1"),
        )

    async def refresh(self) -> McpServer:
        self.made = await self.vault.discover(self.client, self.made, self.person_id or None)
        return self.made

    async def call(
        self,
        arguments: dict[str, Any] | None = None,
        *,
        timeout_seconds: float | None = None,
        report_progress: ReportProgress = report_nothing,
    ) -> ToolResult:
        [tool] = await self.source.list_tools(self.caller)
        call = ToolCall(
            name=tool.name,
            arguments={"to": "ann"} if arguments is None else arguments,
            caller=self.caller,
            request_id=f"req_{len(self.receipts.calls)}",
            timeout_seconds=timeout_seconds,
            report_progress=report_progress,
        )
        return await self.source.call_tool(tool, call)


@contextlib.asynccontextmanager
async def open_bench(
    place: Path | str, limits: McpCallLimits | None = None, /, **registration: Any
) -> AsyncGenerator[Bench]:
    vault = McpHarness(place)
    http = HttpClient(resolver=Guard(RULES))
    client = LazyMcpClient(http, limits or McpCallLimits(answer_bytes_max=100_000))
    receipts = KeptReceipts()
    source = McpServerTools(
        vault.index,
        client,
        receipts,
        clock=vault.clock,
        requests_per_minute=100,
        concurrent_max=1,
    )
    try:
        with running_mcp_server() as server:
            made = vault.register(server, **registration)
            yield Bench(vault, server, http, client, receipts, source, made)
    finally:
        await http.close()
        vault.database.close()


@pytest.fixture
def vault(empty_place: Path | str) -> Generator[McpHarness]:
    harness = McpHarness(empty_place)
    yield harness
    harness.database.close()
