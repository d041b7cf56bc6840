"""The MCP server: publishes tools and resources to agents, behind the keys of the model API."""
