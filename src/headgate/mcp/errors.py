"""The errors of the MCP server that are its own."""

from __future__ import annotations

from headgate.connectors.model.errors import ToolError
from headgate.kit.errors import HeadgateError, Kind


class AgentOriginError(HeadgateError):
    """A web page of another origin sent a request to `/mcp`.

    If that page is yours, list its origin in HEADGATE_CORS_ORIGINS.
    """

    kind = Kind.FORBIDDEN
    code = "origin_not_allowed"


class AgentsBusyError(HeadgateError):
    """Too many requests of agents are being answered.

    Send the request again after the `Retry-After`, or raise HEADGATE_MCP_REQUESTS_MAX.
    """

    kind = Kind.UNAVAILABLE
    code = "mcp_overloaded"


class AgentBodyTooLargeError(HeadgateError):
    """The body of a request to `/mcp` is larger than the limit.

    Send less, hand content over by an address or a handle, or raise HEADGATE_MCP_BODY_BYTES_MAX.
    """

    kind = Kind.TOO_LARGE
    code = "request_too_large"


class AgentJsonError(HeadgateError):
    """The body of a request to `/mcp` is not JSON in UTF-8, or is nested too deeply.

    Send one JSON-RPC message, as JSON by RFC 8259: without NaN, Infinity or half surrogates.
    """

    kind = Kind.INVALID
    code = "invalid_json"


class AgentMessageError(HeadgateError):
    """The body of a request to `/mcp` is JSON, but not one JSON-RPC message.

    Send one message in each request; batches are not part of MCP any more.
    """

    kind = Kind.INVALID
    code = "invalid_message"
    recovery = "Send one JSON-RPC 2.0 message in each request."


class UnknownToolError(ToolError):
    """There is no tool of this name.

    List the tools again, or search them with `search_tools`.
    """

    kind = Kind.MISSING
    code = "tool_not_found"
    recovery = "List the tools again, or look for one with search_tools; then use its exact name."


class NoToolsError(ToolError):
    """There is no tool that this caller may use; the message says why.

    Give the key or the connected application access to tools, or set up an integration.
    """

    kind = Kind.FORBIDDEN
    code = "no_tools"
    recovery = "Ask the owner of the key, or somebody who may set up an integration."


class ToolRunningError(ToolError):
    """The same call was made a moment ago, and still runs in another process of the server.

    Make the same call again after some seconds: it is answered from the first one.
    """

    kind = Kind.CONFLICT
    code = "tool_running"
    recovery = (
        "Wait some seconds, then make the same call again: it is answered from the first one, and "
        "nothing is billed twice."
    )


class ToolAnswerLostError(ToolError):
    """The same call was made a moment ago, and its answer cannot be given again: it was not kept,
    or the server ended while it ran.

    Look whether it did what it was for. To run it anew, and pay again, ask for a repetition.
    """

    kind = Kind.CONFLICT
    code = "tool_answer_lost"
    recovery = (
        "It may have been billed. To run it anew, and pay again, pass repeat to call_tool, or send "
        "io.headgate/repeat in _meta."
    )


class ToolFaultError(ToolError):
    """A tool failed unexpectedly. The server's log has the details under the id of the request.

    Try again later, or tell the operator the id.
    """

    kind = Kind.FAULT
    code = "tool_fault"
    recovery = "Try again later. If it fails again, tell the user the request id in the message."


class UnknownResourceError(ToolError):
    """There is no resource of this address.

    List the resources, and read one of those.
    """

    kind = Kind.MISSING
    code = "resource_not_found"
