"""MCP servers that organizations register: their tools behind the same gate as every other tool."""
