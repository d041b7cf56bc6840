"""The SQL of registered MCP servers."""
