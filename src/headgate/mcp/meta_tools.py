"""The two tools by which an agent finds and calls the tools that its list does not show."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.connectors.model.caller import READ, WRITE, ToolCaller
from headgate.connectors.model.cleaning import clean_input
from headgate.connectors.model.errors import InvalidInputError
from headgate.connectors.model.tool import ToolDefinition

FOUND_MAX, FOUND_DEFAULT = 20, 5

SEARCH_TOOLS = ToolDefinition(
    name="search_tools",
    title="Search tools",
    description="Find more tools, with their input schemas; run one with call_tool.",
    input_schema={
        "type": "object",
        "properties": {"query": {"type": "string", "description": "such as: create image"}},
    },
    is_read_only=True,
    is_idempotent=True,
    is_open_world=False,
    scope=READ,
)
"""`limit` is accepted, too."""

CALL_TOOL = ToolDefinition(
    name="call_tool",
    title="Call a tool",
    description=(
        "Run a tool that search_tools found. `repeat`: run a call anew that was just made."
    ),
    input_schema={
        "type": "object",
        "properties": {
            "name": {"type": "string"},
            "arguments": {"type": "object"},
            "repeat": {"type": "boolean", "default": False},
        },
        "required": ["name"],
    },
    is_destructive=True,
)
CALL_READING_TOOL = msgspec.structs.replace(
    CALL_TOOL, is_read_only=True, is_destructive=False, scope=READ
)
"""The same for callers that may only read: it runs nothing else for them."""

SEARCH, CALL = SEARCH_TOOLS.name, CALL_TOOL.name


def list_meta_tools(caller: ToolCaller) -> list[ToolDefinition]:
    """Return both tools. They are no more than a way to others, each of which has its own policy,
    so that the patterns of a key do not concern them."""
    return [SEARCH_TOOLS, CALL_TOOL if WRITE in caller.scopes else CALL_READING_TOOL]


class SearchInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    query: str = ""
    limit: int = FOUND_DEFAULT


class CallInput(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    name: str
    arguments: dict[str, Any] = {}
    repeat: bool = False


def read_search(arguments: dict[str, Any]) -> SearchInput:
    """Raise `InvalidInputError`."""
    given = clean_input(SearchInput, arguments)
    limit = max(1, min(given.limit, FOUND_MAX))
    return msgspec.structs.replace(given, limit=limit)


def read_call(arguments: dict[str, Any]) -> CallInput:
    """Raise `InvalidInputError`."""
    given = clean_input(CallInput, arguments)
    if given.name in (SEARCH, CALL):
        raise InvalidInputError(
            f"Call {given.name} itself, not through another tool.", param="name"
        )
    return given


def describe_found(tool: ToolDefinition) -> dict[str, Any]:
    """Return a found tool as an agent needs it to call it."""
    return {
        "name": tool.name,
        "title": tool.title,
        "description": tool.description,
        "input_schema": tool.input_schema,
        "read_only": tool.is_read_only,
        "destructive": tool.is_destructive,
    }
