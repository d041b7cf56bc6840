"""What the MCP server knows of one request, for the handlers of the SDK's server."""

from __future__ import annotations

import msgspec

from headgate.connectors.model.caller import ToolCaller
from headgate.mcp.toolbox import ToolSet

SCOPE_KEY = "headgate.mcp"
"""Under which name the exchange is in the ASGI scope."""


class AgentExchange(msgspec.Struct, frozen=True):
    """Hold who asks. `tools` is set where they were looked up already."""

    caller: ToolCaller
    request_id: str
    tools: ToolSet | None = None
