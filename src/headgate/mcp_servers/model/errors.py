"""The errors of registered MCP servers."""

from __future__ import annotations

from headgate.connectors.model.errors import ToolError
from headgate.kit.errors import HeadgateError, Kind


class InvalidMcpServerError(HeadgateError):
    """A field of an MCP server has a value that cannot be used.

    Correct the field that the message names. An address begins with `https://` and leads to a
    public address, unless the operator allows it in `HEADGATE_EGRESS_ALLOW`.
    """

    kind = Kind.INVALID
    code = "invalid_mcp_server"


class LocalMcpServerError(HeadgateError):
    """The request describes an MCP server that is started as a program. Headgate starts none.

    Run the program somewhere behind an address that speaks MCP over HTTP, and register that.
    """

    kind = Kind.INVALID
    code = "local_mcp_server_refused"


class McpServerNotFoundError(HeadgateError):
    """There is no such MCP server in this organization.

    List the servers to see their ids.
    """

    kind = Kind.MISSING
    code = "mcp_server_not_found"


class McpToolNotFoundError(HeadgateError):
    """The MCP server has no tool of this name, or none was found yet.

    List the tools of the server, or refresh it.
    """

    kind = Kind.MISSING
    code = "mcp_tool_not_found"


class McpToolChangedError(HeadgateError):
    """The definition of the tool is not the one that was to be approved.

    Read the tool again, judge its definition, and approve the hash that it has now.
    """

    kind = Kind.CONFLICT
    code = "mcp_tool_changed"


class McpServerExistsError(HeadgateError):
    """The organization has an MCP server of this name already.

    Choose another name: it begins the names of the server's tools.
    """

    kind = Kind.CONFLICT
    code = "mcp_server_exists"


class TooManyMcpServersError(HeadgateError):
    """The organization has as many MCP servers as it may have.

    Delete one that is not used.
    """

    kind = Kind.CONFLICT
    code = "too_many_mcp_servers"


class McpServerFailedError(ToolError):
    """The MCP server could not be reached, broke off, or answered something that is not MCP.

    Try again later. If it goes on, ask whoever runs that server.
    """

    kind = Kind.UPSTREAM
    code = "mcp_server_failed"


class McpServerTimedOutError(ToolError):
    """The MCP server did not answer within its time-out.

    Ask for less, or let a manager give the server more time.
    """

    kind = Kind.UPSTREAM_TIMEOUT
    code = "mcp_server_timed_out"


class McpServerBusyError(ToolError):
    """The MCP server has as many calls in progress as it may have, or too many servers of the
    organization are being asked for their tools.

    Wait, then try again.
    """

    kind = Kind.LIMITED
    code = "mcp_server_busy"


class McpToolBlockedError(ToolError):
    """The tool is not approved: it is new, its definition changed, or a manager blocked it.

    A manager of the organization approves it; until then use another tool.
    """

    kind = Kind.FORBIDDEN
    code = "mcp_tool_blocked"
    recovery = "Use another tool, or ask a manager of the organization to look at this one."


class McpTokenMissingError(ToolError):
    """The MCP server wants a token of the person who calls, and has none of this one.

    The person stores a token with `PUT /api/mcp-servers/{id}/token`.
    """

    kind = Kind.CONFLICT
    code = "mcp_token_missing"
