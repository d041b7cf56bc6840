"""Register servers, pin their tools, call them."""

from headgate.mcp_servers.service.discoverer import McpDiscoverer
from headgate.mcp_servers.service.index import McpServerIndex
from headgate.mcp_servers.service.pins import McpToolService
from headgate.mcp_servers.service.servers import PURPOSE, RESERVED_NAMES, McpServerService
from headgate.mcp_servers.service.targets import LazyMcpClient, McpCallLimits, McpClient
from headgate.mcp_servers.service.tool_source import McpServerTools, ToolCallReceipts
from headgate.mcp_servers.store.servers import TOPIC

__all__ = [
    "PURPOSE",
    "RESERVED_NAMES",
    "TOPIC",
    "LazyMcpClient",
    "McpCallLimits",
    "McpClient",
    "McpDiscoverer",
    "McpServerIndex",
    "McpServerService",
    "McpServerTools",
    "McpToolService",
    "ToolCallReceipts",
]
