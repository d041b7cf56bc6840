"""What the clients of people send to an MCP server, from the first request on.

Claude Code 2.1.332, Codex 0.171.0, mcp-remote 0.15.1 and the inspector 2.12.0 were recorded. What
Claude, ChatGPT, VS Code and Cursor register is from their documentation and from public reports;
nobody outside can record the first two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

Json = dict[str, Any]
NEW, OLD, OLDER = "2026-07-28", "2025-11-25", "2025-06-18"
GRANTS = ["authorization_code", "refresh_token"]
META = "io.modelcontextprotocol"


@dataclass(frozen=True)
class RecordedClient:
    """Hold how a client connects. `callback` is where it sends the browser, with a port that it
    has only then; `probe` is its first request; `calls` are those of its session."""

    name: str
    registration: Json
    callback: str
    calls: Sequence[Json]
    version: str = OLD
    headers: Mapping[str, str] = field(default_factory=dict[str, str])
    probe: str = "POST"
    scope: str | None = "mcp:read mcp:write"
    """What it asks for: what the answer without a token named, or nothing."""


def register(name: str, *redirect_uris: str, **more: Any) -> Json:
    return {
        "client_name": name,
        "redirect_uris": list(redirect_uris),
        "grant_types": GRANTS,
        "response_types": ["code"],
        "token_endpoint_auth_method": "none",
        **more,
    }


def call(method: str, id: int | str | None, params: Json | None = None) -> Json:
    message: Json = {"jsonrpc": "2.0", "method": method}
    if id is not None:
        message["id"] = id
    return message if params is None else {**message, "params": params}


def initialize(version: str, name: str, capabilities: Json | None = None) -> list[Json]:
    """Return the handshake of the older revisions."""
    info = {"name": name, "version": "1.0.0"}
    params = {
        "protocolVersion": version,
        "capabilities": capabilities or {},
        "clientInfo": info,
    }
    return [call("initialize", 0, params), call("notifications/initialized", None)]


def describe(name: str, capabilities: Json) -> Json:
    """Return what a client of the newest revision says of itself in every request."""
    return {
        "_meta": {
            f"{META}/protocolVersion": NEW,
            f"{META}/clientInfo": {"name": name, "version": "2.1.332", "title": name},
            f"{META}/clientCapabilities": capabilities,
        }
    }


CLAUDE_CODE = describe(
    "claude-code", {"roots": {"listChanged": True}, "elicitation": {"form": {}, "url": {}}}
)
LISTS = [call("tools/list", 1), call("resources/list", 2)]
HTTP_CODEX = {"user-agent": "codex-mcp-client/0.171.0"}

CLIENTS = (
    RecordedClient(
        "Claude Code",
        register("Claude Code (headgate)", "http://localhost:3118/callback"),
        "http://localhost:52113/callback",
        [
            call("server/discover", "server-discover-probe-1", CLAUDE_CODE),
            call("tools/list", 0, CLAUDE_CODE),
        ],
        version=NEW,
        headers={"user-agent": "claude-code/2.1.332 (sdk-cli)"},
    ),
    RecordedClient(
        "Claude and Claude Desktop",
        register(
            "Claude",
            "https://claude.ai/api/mcp/auth_callback",
            scope="claudeai",
            token_endpoint_auth_method="client_secret_post",
        ),
        "https://claude.ai/api/mcp/auth_callback",
        [*initialize(OLD, "claude-ai"), *LISTS],
        headers={"user-agent": "python-httpx/0.28.1"},
    ),
    RecordedClient(
        "ChatGPT",
        register("ChatGPT", "https://chatgpt.com/connector_platform_oauth_redirect"),
        "https://chatgpt.com/connector_platform_oauth_redirect",
        [*initialize(OLDER, "openai-mcp"), *LISTS],
        version=OLDER,
        scope=None,
    ),
    RecordedClient(
        "Visual Studio Code",
        register(
            "Visual Studio Code",
            "https://insiders.vscode.dev/redirect",
            "https://vscode.dev/redirect",
            "http://127.0.0.1/",
            "http://127.0.0.1:33418/",
            client_uri="https://code.visualstudio.com",
            grant_types=[*GRANTS, "urn:ietf:params:oauth:grant-type:device_code"],
            scope="mcp:read mcp:write",
            application_type="native",
        ),
        "http://127.0.0.1:33418/",
        [
            *initialize(OLD, "Visual Studio Code", {"roots": {"listChanged": True}}),
            *LISTS,
        ],
    ),
    RecordedClient(
        "Cursor",
        register(
            "Cursor",
            "cursor://anysphere.cursor-mcp/oauth/callback",
            "https://www.cursor.com/agents/mcp/oauth/callback",
            "http://localhost:8787/callback",
        ),
        "cursor://anysphere.cursor-mcp/oauth/callback",
        [*initialize(OLDER, "cursor-vscode"), *LISTS],
        version=OLDER,
    ),
    RecordedClient(
        "Codex",
        register(
            "Codex",
            "http://127.0.0.1:41667/callback",
            scope="mcp:read mcp:write",
            application_type="native",
        ),
        "http://127.0.0.1:41667/callback",
        [
            *initialize(OLDER, "codex-mcp-client", {"elicitation": {"form": {}, "url": {}}}),
            call("tools/list", 1, {"_meta": {"progressToken": 0}}),
            call("resources/templates/list", 2, {"_meta": {"progressToken": 1}}),
            call("resources/list", 3, {"_meta": {"progressToken": 2}}),
        ],
        version=OLDER,
        headers=HTTP_CODEX,
        probe="GET",
    ),
    RecordedClient(
        "mcp-remote",
        register(
            "MCP CLI Proxy",
            "http://localhost:10111/oauth/callback",
            client_uri="https://github.com/modelcontextprotocol/mcp-cli",
            software_id="2e6dc280-f3c3-4e01-99a7-8181dbd1d23d",
            software_version="0.15.1",
            scope="mcp:read mcp:write",
            application_type="native",
        ),
        "http://localhost:10111/oauth/callback",
        [*initialize(OLD, "mcp-remote-fallback-test"), *LISTS],
        probe="GET",
    ),
    RecordedClient(
        "MCP Inspector",
        register(
            "MCP Inspector",
            "http://localhost:6274/oauth/callback",
            client_uri="https://github.com/modelcontextprotocol/inspector",
        ),
        "http://localhost:6274/oauth/callback",
        [*initialize(OLD, "inspector-cli", {"roots": {"listChanged": True}}), *LISTS],
    ),
)
