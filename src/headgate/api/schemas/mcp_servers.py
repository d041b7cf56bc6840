"""MCP servers of an organization and their pinned tools, as the platform API reads and writes
them."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.schemas.fields import build_response, to_optional_datetime
from headgate.api.schemas.pages import Page
from headgate.mcp_servers.model.definition import DefinitionChange, ToolDefinitionRecord
from headgate.mcp_servers.model.server import (
    DESCRIPTION_CHARACTERS_MAX,
    HEADER_CHARACTERS_MAX,
    HEADERS_MAX,
    NAME_PATTERN,
    TIMEOUT_SECONDS,
    TIMEOUT_SECONDS_MAX,
    McpAuthentication,
    McpServer,
    McpServerRequest,
    check_transport,
    make_name,
    parse_address,
    suggest_name,
)
from headgate.mcp_servers.model.tool import PinnedTool, ToolStatus

McpUrl = Annotated[str, Meta(min_length=1, max_length=2048)]
McpName = Annotated[str, Meta(pattern=f"^{NAME_PATTERN}$")]
McpText = Annotated[str, Meta(max_length=DESCRIPTION_CHARACTERS_MAX)]
HeaderName = Annotated[str, Meta(min_length=1, max_length=64)]
HeaderValue = Annotated[str, Meta(min_length=1, max_length=HEADER_CHARACTERS_MAX)]
McpHeaders = Annotated[dict[HeaderName, HeaderValue], Meta(max_length=HEADERS_MAX)]
McpTimeout = Annotated[float, Meta(ge=1, le=TIMEOUT_SECONDS_MAX)]
McpRate = Annotated[int, Meta(ge=0, le=1_000_000)]
ToolHash = Annotated[str, Meta(pattern="^[0-9a-f]{64}$")]
ToolName = Annotated[str, Meta(min_length=1, max_length=128)]


class LocalProgram(msgspec.Struct, frozen=True, kw_only=True):
    """The fields by which clients describe a program to start. Headgate starts none: they are read
    only to say so."""

    command: Any = None
    args: Any = None
    env: Any = None
    stdio: Any = None
    type: Annotated[str, Meta(max_length=64)] = ""
    transport: Annotated[str, Meta(max_length=64)] = ""

    def check(self) -> None:
        """Raise `LocalMcpServerError` for a program, and `InvalidMcpServerError` for a transport
        that is not spoken here."""
        has_command = any(each is not None for each in (self.command, self.args, self.stdio))
        for kind in (self.type, self.transport):
            check_transport(kind, has_command=has_command or self.env is not None)


class McpServerCreate(LocalProgram, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An MCP server to register."""

    url: McpUrl = ""
    name: McpName | None = None
    description: McpText = ""
    headers: McpHeaders = {}
    authentication: McpAuthentication = McpAuthentication.SHARED
    approve_first_discovery: bool = False
    timeout_seconds: McpTimeout = TIMEOUT_SECONDS
    requests_per_minute: McpRate | None = None

    def __repr__(self) -> str:
        return f"McpServerCreate({self.name})"

    def to_request(self, organization_id: str) -> McpServerRequest:
        """Raise `LocalMcpServerError` and `InvalidMcpServerError`."""
        self.check()
        return McpServerRequest(
            organization_id=organization_id,
            name=self.name or suggest_name(parse_address(self.url)[0]),
            url=self.url,
            description=self.description,
            headers=self.headers,
            authentication=self.authentication,
            approve_first=self.approve_first_discovery,
            timeout_seconds=self.timeout_seconds,
            requests_per_minute=self.requests_per_minute,
        )


class McpCredentialCreate(LocalProgram, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """An MCP server to register, in the words of ModuleX. The tools of its first discovery are
    approved, unless `approve_first_discovery` is false."""

    server_url: McpUrl = ""
    headers: McpHeaders = {}
    display_name: Annotated[str, Meta(max_length=200)] = ""
    description: McpText = ""
    approve_first_discovery: bool = True

    def __repr__(self) -> str:
        return f"McpCredentialCreate({self.display_name})"

    def to_request(self, organization_id: str) -> McpServerRequest:
        """Raise `LocalMcpServerError` and `InvalidMcpServerError`."""
        self.check()
        origin, _ = parse_address(self.server_url)
        return McpServerRequest(
            organization_id=organization_id,
            name=make_name(self.display_name) if self.display_name else suggest_name(origin),
            url=self.server_url,
            description=self.description,
            headers=self.headers,
            approve_first=self.approve_first_discovery,
        )


class McpServerUpdate(LocalProgram, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A partial update; fields that are missing stay the same. `headers` replaces all headers."""

    url: McpUrl | UnsetType = UNSET
    name: McpName | UnsetType = UNSET
    description: McpText | UnsetType = UNSET
    headers: McpHeaders | UnsetType = UNSET
    authentication: McpAuthentication | UnsetType = UNSET
    timeout_seconds: McpTimeout | UnsetType = UNSET
    requests_per_minute: McpRate | UnsetType | None = UNSET
    enabled: bool | UnsetType = UNSET

    def __repr__(self) -> str:
        return "McpServerUpdate()"

    def list_changes(self) -> dict[str, Any]:
        """Return the given fields of the server. Raise `LocalMcpServerError`."""
        self.check()
        names = (
            *("url", "name", "description", "authentication", "timeout_seconds"),
            "requests_per_minute",
        )
        return {name: value for name in names if (value := getattr(self, name)) is not UNSET}


class SkippedMcpTool(msgspec.Struct):
    """A tool of the server that cannot be offered, with the reason."""

    name: str
    reason: str


class McpServerResponse(msgspec.Struct, kw_only=True):
    """A registered MCP server without its secrets."""

    id: str
    organization_id: str
    name: str
    url: str
    description: str
    authentication: str
    header_names: list[str]
    approve_first_discovery: bool
    timeout_seconds: float
    requests_per_minute: int | None
    enabled: bool
    disabled_at: datetime.datetime | None
    protocol_version: str | None
    server_title: str | None
    server_version: str | None
    discovered_at: datetime.datetime | None
    discovery_error: str | None
    skipped_tools: list[SkippedMcpTool]
    created_at: datetime.datetime
    updated_at: datetime.datetime
    version: int


class McpServerDetailsResponse(McpServerResponse, kw_only=True):
    """A registered MCP server, with how many tools it has in each state."""

    tool_counts: dict[str, int]


class McpServerPage(Page, kw_only=True):
    """A page of MCP servers, by name."""

    servers: list[McpServerResponse]


class McpToolChange(msgspec.Struct):
    """A place of a definition that differs from what was approved. Null stands for what is not
    there."""

    path: str
    before: Any
    after: Any


class McpToolResponse(msgspec.Struct, kw_only=True):
    """A tool of a registered MCP server."""

    id: str
    name: str
    tool_name: str
    status: ToolStatus
    hash: str
    approved_hash: str | None
    definition: dict[str, Any] | None
    changes: list[McpToolChange]
    approved_by: str | None
    approved_at: datetime.datetime | None
    first_seen_at: datetime.datetime
    last_seen_at: datetime.datetime


class McpToolPage(Page, kw_only=True):
    """A page of the tools of an MCP server, by name."""

    tools: list[McpToolResponse]


class McpToolList(msgspec.Struct, kw_only=True):
    """The tools that were approved."""

    tools: list[McpToolResponse]


class McpToolApproval(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The definition that was judged and is approved, by its hash."""

    hash: ToolHash


class McpToolApprovals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The definitions that were judged and are approved: hashes by the names of the tools."""

    tools: Annotated[dict[ToolName, ToolHash], Meta(min_length=1, max_length=1_000)]


class McpTokenRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token with which your calls reach the server."""

    token: Annotated[str, Meta(min_length=1, max_length=HEADER_CHARACTERS_MAX)]

    def __repr__(self) -> str:
        return "McpTokenRequest()"


def to_mcp_server_response(server: McpServer) -> McpServerResponse:
    return build_response(McpServerResponse, server, **_convert(server))


def to_mcp_server_details(server: McpServer, counts: dict[str, int]) -> McpServerDetailsResponse:
    return build_response(McpServerDetailsResponse, server, **_convert(server), tool_counts=counts)


def to_mcp_tool_response(server: McpServer, tool: PinnedTool) -> McpToolResponse:
    definition = tool.offered or tool.approved
    return build_response(
        McpToolResponse,
        tool,
        tool_name=tool.make_name(server.name),
        definition=None if definition is None else _show(definition),
        changes=[_show_change(each) for each in tool.find_changes()],
        approved_by=tool.approved_by if tool.approved_at is not None else None,
        approved_at=to_optional_datetime(tool.approved_at),
        status=tool.status,
    )


def _convert(server: McpServer) -> dict[str, Any]:
    return {
        "approve_first_discovery": server.approve_first,
        "enabled": server.disabled_at is None,
        "disabled_at": to_optional_datetime(server.disabled_at),
        "discovered_at": to_optional_datetime(server.discovered_at),
        "discovery_error": server.discovery_error or None,
        "protocol_version": server.protocol_version or None,
        "server_title": server.server_title or None,
        "server_version": server.server_version or None,
        "skipped_tools": [SkippedMcpTool(name, reason) for name, reason in server.skipped],
    }


def _show(definition: ToolDefinitionRecord) -> dict[str, Any]:
    shown: dict[str, Any] = msgspec.to_builtins(definition)
    return shown


def _show_change(difference: DefinitionChange) -> McpToolChange:
    return McpToolChange(difference.path, difference.before, difference.after)
