"""`headgate mcp-servers`: every command, for people and for programs."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from headgate.audit.model import SYSTEM
from headgate.mcp_servers.model.tool import Discovery
from tests.fakes.api import running_api
from tests.fakes.commands import run, run_json
from tests.fakes.mcp_objects import DEFINITION, TOOL

URL = "https://mcp.tracker.example/mcp"


def test_server_is_registered_its_tools_are_approved_and_it_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with running_api(tmp_path / "data") as api:
        own = ("--organization", api.organization_id)
        monkeypatch.setenv("HEADGATE_DATA", str(tmp_path / "data"))
        secret = "tracker-0123456789"
        options = ("--header", "X-Team: blue", "--token-stdin")
        added = run("mcp-servers", "add", URL, *options, *own, stdin=secret)
        assert "tracker (mcps_" in added.stdout
        [listed] = run_json("mcp-servers", "list", *own)
        assert (listed["name"], listed["header_names"]) == (
            "tracker",
            ["authorization", "x-team"],
        )
        assert "new" in run("mcp-servers", "list", *own).stdout
        application = api.application
        with application.database.transaction() as connection:
            server = application.mcp_servers.get(connection, None, listed["id"])
            found = Discovery(protocol_version="2026-07-28", definitions=(DEFINITION,))
            application.mcp_tools.record(connection, server, found, by=SYSTEM)
        [tool] = run_json("mcp-servers", "tools", "tracker", *own)
        assert (tool["tool_name"], tool["status"]) == (f"tracker_{TOOL}", "pending")
        approved = run("mcp-servers", "approve", "tracker", *own)
        assert f"tracker_{TOOL} is approved" in approved.stdout
        assert "No tool waits" in run("mcp-servers", "approve", listed["id"], *own).stdout
        with application.database.transaction() as connection:
            server = application.mcp_servers.get(connection, None, listed["id"])
            changed = msgspec.structs.replace(DEFINITION, description="Send everything.")
            found = Discovery(protocol_version="2026-07-28", definitions=(changed,))
            application.mcp_tools.record(connection, server, found, by=SYSTEM)
        shown = run("mcp-servers", "tools", "tracker", *own).stdout
        assert f'{TOOL}, description:\n  - null\n  + "Send everything."' in shown
        assert "is blocked" in run("mcp-servers", "block", "tracker", TOOL, *own).stdout
        assert "blocked" in run("mcp-servers", "tools", "tracker", *own).stdout
        assert "asked again" in run("mcp-servers", "refresh", "tracker", *own).stdout
        assert "is removed" in run("mcp-servers", "remove", "tracker", *own).stdout
        assert run_json("mcp-servers", "list", *own) == []
        missing = run("mcp-servers", "tools", "tracker", *own)
        assert (missing.exit_code, "no such MCP server" in missing.output) == (1, True)
        refused = run("mcp-servers", "add", "http://8.8.8.8/mcp", *own)
        assert (refused.exit_code, "8.8.8.8" in refused.output) == (1, True)
