"""Values and rules of registered MCP servers and of their pinned tools."""
