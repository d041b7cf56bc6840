"""Connectors: actions, tools, who calls them, and what they answer."""
