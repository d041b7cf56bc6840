"""What the MCP server knows of one request, for the handlers of the SDK's server."""

from __future__ import annotations

import msgspec

from headgate.connectors.model.caller import ToolCaller
from headgate.kit.errors import HeadgateError
from headgate.mcp.toolbox import ToolSet

SCOPE_KEY = "headgate.mcp"
"""Under which name the exchange is in the ASGI scope."""


class AgentExchange(msgspec.Struct, frozen=True):
    """Hold who asks. `tools` is set where they were looked up already, and `refusal` where the call
    of one is refused: that is a result, which a model can read."""

    caller: ToolCaller
    request_id: str
    tools: ToolSet | None = None
    refusal: HeadgateError | None = None
