"""Servers, pins and secrets on both databases, and refreshes by several processes."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import event

from headgate.audit.model import SYSTEM
from headgate.audit.service import AuditLog
from headgate.connectors.model.tool import ReportProgress, ToolResult
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.db.schema import read_revision
from headgate.kit.db.writer import Writer
from headgate.kit.http.client import HttpClient
from headgate.kit.ids import IdGenerator
from headgate.mcp_servers.jobs import McpRefresher
from headgate.mcp_servers.model.definition import ToolDefinitionRecord
from headgate.mcp_servers.model.errors import McpToolChangedError
from headgate.mcp_servers.model.server import McpAuthentication, McpServer, McpServerRequest
from headgate.mcp_servers.model.tool import Discovery, PinnedTool, ToolStatus
from headgate.mcp_servers.service import (
    LazyMcpClient,
    McpCallLimits,
    McpDiscoverer,
    McpServerIndex,
)
from headgate.mcp_servers.service.targets import McpTarget
from headgate.mcp_servers.store.servers import TOPIC
from headgate.vault.model.secret import SecretRequest
from headgate.vault.service import SecretService
from tests.fakes.mcp_server import running_mcp_server
from tests.unit.mcp_servers.conftest import McpHarness

pytestmark = pytest.mark.anyio


def define(name: str, description: str = "") -> ToolDefinitionRecord:
    return ToolDefinitionRecord(name=name, description=description, input_schema={"type": "object"})


def record(vault: McpHarness, made: McpServer, *definitions: ToolDefinitionRecord) -> McpServer:
    found = Discovery(protocol_version="2026-07-28", definitions=definitions)
    with vault.database.transaction() as connection:
        made = vault.servers.get(connection, None, made.id)
        made = vault.tools.record(connection, made, found, by=SYSTEM)
    vault.load()
    return made


def list_tools(vault: McpHarness, made: McpServer) -> dict[str, PinnedTool]:
    with vault.database.reading() as connection:
        tools, _ = vault.tools.list(connection, made, limit=100)
    return {each.name: each for each in tools}


def test_only_the_first_discovery_is_approved_and_failures_change_nothing(
    vault: McpHarness,
) -> None:
    with running_mcp_server() as server:
        made = vault.register(server)
    failed = Discovery(error="It is down.")
    with vault.database.transaction() as connection:
        made = vault.tools.record(connection, made, failed, by=SYSTEM)
    assert (made.discovery_error, made.refresh_at) == ("It is down.", vault.clock.now() + 300)
    made = record(vault, made, define("a"), define("b"))
    made = record(vault, made, define("a", "changed"), define("c"))
    statuses = {name: each.status for name, each in list_tools(vault, made).items()}
    assert statuses == {
        "a": ToolStatus.CHANGED,
        "b": ToolStatus.MISSING,
        "c": ToolStatus.PENDING,
    }
    with vault.database.transaction() as connection:
        vault.tools.record(connection, made, failed, by=SYSTEM)
    assert {name: each.status for name, each in list_tools(vault, made).items()} == statuses


def test_discovery_that_finds_what_is_known_makes_nobody_read_the_servers_again(
    vault: McpHarness,
) -> None:
    def read() -> int:
        with vault.database.reading() as connection:
            return read_revision(connection, TOPIC)

    with running_mcp_server() as server:
        made = vault.register(server)
    made = record(vault, made, define("a"), define("b"))
    for definitions, is_news in (
        ([define("a"), define("b")], False),
        ([define("b"), define("a")], False),
        ([define("a", "changed"), define("b")], True),
        ([define("a", "changed"), define("b")], False),
        ([define("a"), define("b")], True),
        ([define("a")], True),
        ([define("a"), define("b")], True),
        ([define("a"), define("b"), define("c")], True),
    ):
        before = read()
        made = record(vault, made, *definitions)
        assert (read() > before) is is_news
    before = read()
    with vault.database.transaction() as connection:
        vault.tools.record(connection, made, Discovery(error="It is down."), by=SYSTEM)
    assert read() == before


def test_approval_of_several_tools_is_all_or_nothing(vault: McpHarness) -> None:
    with running_mcp_server() as server:
        made = vault.register(server, approve_first=False)
    made = record(vault, made, define("a"), define("b"))
    hashes = {name: each.hash for name, each in list_tools(vault, made).items()}

    def approve(given: dict[str, str]) -> Any:
        with vault.database.transaction() as connection:
            return vault.tools.approve(connection, made, given, by=SYSTEM)

    with pytest.raises(McpToolChangedError):
        approve({**hashes, "b": "0" * 64})
    assert {each.status for each in list_tools(vault, made).values()} == {ToolStatus.PENDING}
    approve(hashes)
    assert {each.status for each in list_tools(vault, made).values()} == {ToolStatus.APPROVED}


def test_secrets_open_for_their_server_their_person_and_their_origin_only(
    vault: McpHarness,
) -> None:
    with running_mcp_server() as server:
        made = vault.register(
            server, headers={"X-Key": "one"}, authentication=McpAuthentication.PERSON
        )
    with vault.database.transaction() as connection:
        vault.servers.put_token(connection, made, "per_1", "token", by=SYSTEM)
    assert read_secrets(vault, made) == ({"x-key": "one"}, {"per_1": "token"})
    moves = (
        ("UPDATE mcp_server_secrets SET origin = 'https://evil.example:443'", ""),
        ("UPDATE mcp_server_secrets SET person_id = 'per_2' WHERE person_id = 'per_1'", "x-key"),
    )
    for move, left in moves:
        with vault.database.transaction() as connection:
            connection.exec_driver_sql(move)
            headers, tokens = read_secrets(vault, made, connection)
            assert ("".join(headers), tokens) == (left, {})
            connection.rollback()


def read_secrets(
    vault: McpHarness, made: McpServer, connection: sa.Connection | None = None
) -> tuple[dict[str, str], dict[str, str]]:
    """Return the headers and the tokens that a process which starts now can open."""
    index = McpServerIndex()
    if connection is not None:
        index.load(connection, vault.sealer)
    else:
        with vault.database.reading() as reading:
            index.load(reading, vault.sealer)
    route = index.find(made.id)
    assert route is not None
    return dict(route.headers), dict(route.tokens)


async def test_what_another_address_said_is_not_recorded(vault: McpHarness) -> None:
    writer = Writer(vault.database)
    writer.start()
    storage = AsyncDatabase(vault.database, writer, reload=vault.load)

    class MovingClient:
        """Answer while the server gets another address."""

        async def discover(self, target: McpTarget) -> Discovery:
            assert str(target.origin) == "https://old.example:443"
            with vault.database.transaction() as connection:
                changes = {"url": "https://new.example/mcp"}
                vault.servers.update(connection, made, changes, by=SYSTEM)
            return Discovery(protocol_version="2026-07-28", definitions=(define("a"),))

        async def call(
            self,
            target: McpTarget,
            tool: ToolDefinitionRecord,
            arguments: dict[str, Any],
            report_progress: ReportProgress,
        ) -> ToolResult:
            raise NotImplementedError

    request = McpServerRequest(
        organization_id=vault.own, url="https://old.example/mcp", name="moving", approve_first=True
    )
    try:
        with vault.database.transaction() as connection:
            made = vault.servers.create(connection, request, by=SYSTEM)
        vault.load()
        discoverer = McpDiscoverer(
            storage, vault.index, MovingClient(), servers=vault.servers, tools=vault.tools
        )
        after = await discoverer.refresh(None, made.id, person_id=None, by=SYSTEM)
        assert (after.url, after.discovered_at) == ("https://new.example/mcp", None)
        assert list_tools(vault, made) == {}
    finally:
        await writer.stop()


async def test_due_server_is_refreshed_by_one_of_several_processes(vault: McpHarness) -> None:
    writer = Writer(vault.database)
    writer.start()
    http = HttpClient()
    storage = AsyncDatabase(vault.database, writer, reload=vault.load)
    client = LazyMcpClient(http, McpCallLimits())
    discoverer = McpDiscoverer(
        storage, vault.index, client, servers=vault.servers, tools=vault.tools
    )
    processes = [McpRefresher(storage, discoverer, vault.clock) for _ in range(3)]
    try:
        with running_mcp_server() as server:
            made = vault.register(server)
            personal = vault.register(
                server, name="personal", authentication=McpAuthentication.PERSON
            )
            counts = await asyncio.gather(*(each.run() for each in processes))
            assert sum(counts) == 2
            # The guard of this client allows no local address: that is what it says.
            found = vault.servers
            with vault.database.reading() as connection:
                assert "refused" in found.get(connection, None, made.id).discovery_error
                assert found.get(connection, None, personal.id).discovery_error == ""
            vault.clock.time += 301
            assert sum([await each.run() for each in processes]) == 1
            assert server.methods == []
    finally:
        await http.close()
        await writer.stop()


def test_load_reads_the_vault_once_for_all_servers(vault: McpHarness) -> None:
    secrets = SecretService(
        vault.sealer, clock=vault.clock, ids=IdGenerator(), audit=AuditLog(vault.clock)
    )
    made: list[McpServer] = []
    with vault.database.transaction() as connection:
        for name in ("first", "second"):
            url = f"https://{name}.example"
            stored = SecretRequest(
                organization_id=vault.own,
                project_id=None,
                name=name,
                value=f"{name}-value",
                base_url=url,
            )
            secrets.put(connection, stored, by=SYSTEM)
            request = McpServerRequest(
                organization_id=vault.own,
                name=name,
                url=f"{url}/mcp",
                headers={"x-one": f"{{{{vault:{name}}}}}", "x-two": f"<{{{{vault:{name}}}}}>"},
            )
            made.append(vault.servers.create(connection, request, by=SYSTEM))
    statements: list[str] = []

    def keep(_connection: object, _cursor: object, statement: str, *_rest: object) -> None:
        statements.append(statement)

    event.listen(vault.database.engine, "before_cursor_execute", keep)
    vault.load()
    assert vault.index.has_references
    for each in made:
        route = vault.index.find(each.id)
        assert route is not None
        value = f"{each.name}-value"
        assert route.headers == {"x-one": value, "x-two": f"<{value}>"}
    assert sum("FROM secrets" in each for each in statements) == 1
    # For the headers of servers, and for what these refer to.
    assert sum("FROM organization_keys" in each for each in statements) <= 2
