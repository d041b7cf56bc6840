"""Make the schemas and texts of a list of tools short: a model reads all of them with each turn."""

from __future__ import annotations

import re
from typing import Any, cast

import msgspec

from headgate.connectors.model.schema import UNREAD
from headgate.connectors.model.tool import ToolDefinition

SUMMARY_CHARACTERS = 600
FRAME_BYTES = 120
"""What the names of members and the hints of a tool take."""
DROPPED = frozenset({"$schema", "$id", "title", "examples", "x-mcp-header"})
"""Members that a model needs not, and those that would mirror arguments into headers."""
NAMES_OF_OWN = frozenset({"properties", "$defs", "definitions", "patternProperties"})
"""Members whose members are names that somebody chose, and not keywords."""
VALUES = frozenset({"default", "const", "enum"})
PARAGRAPH = re.compile(r"\n\s*\n")


def summarize(description: str) -> str:
    """Return the first paragraph on one line, and at most 600 characters."""
    text = " ".join(PARAGRAPH.split(description.strip(), maxsplit=1)[0].split())
    return text if len(text) <= SUMMARY_CHARACTERS else text[: SUMMARY_CHARACTERS - 1] + "…"


def strip_input(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a schema without what a model needs not. The tool checks its input by the whole
    one."""
    return _strip(schema)


def measure(tool: ToolDefinition) -> int:
    """Return about how many bytes a tool takes in a list."""
    shown = (
        *(tool.name, tool.title, summarize(tool.description)),
        *(strip_input(tool.input_schema), relax_output(tool.output_schema)),
    )
    return FRAME_BYTES + len(msgspec.json.encode(shown))


def _strip(node: Any, *, are_names: bool = False) -> Any:
    if isinstance(node, dict):
        members = cast("dict[str, Any]", node)
        return {
            name: value
            if not are_names and name in VALUES
            else _strip(value, are_names=not are_names and name in NAMES_OF_OWN)
            for name, value in members.items()
            if are_names or not _is_dropped(name, value, members)
        }
    if isinstance(node, list):
        return [_strip(each) for each in cast("list[Any]", node)]
    return node


def _is_dropped(name: str, value: Any, members: dict[str, Any]) -> bool:
    # The values tell their type.
    is_known = name == "type" and value == "string" and "enum" in members
    return name in DROPPED or is_known or (name, value) in UNREAD


def relax_output(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return an output schema that names the members and requires none: a long result has a handle
    in their place. Search shows the tool with all that is said of it."""
    if schema is None:
        return None
    properties: dict[str, Any] = schema.get("properties", {})
    return {"type": "object", "properties": {name: {} for name in properties}}
