"""Make the schemas and texts of a list of tools short: a model reads all of them with each turn."""

from __future__ import annotations

import re
from typing import Any, cast

SUMMARY_CHARACTERS = 600
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
    """Return a schema without what a model needs not. It accepts the same."""
    return _strip(schema)


def _strip(node: Any, *, are_names: bool = False) -> Any:
    if isinstance(node, dict):
        members = cast("dict[str, Any]", node)
        return {
            name: value
            if not are_names and name in VALUES
            else _strip(value, are_names=not are_names and name in NAMES_OF_OWN)
            for name, value in members.items()
            if are_names or name not in DROPPED
        }
    if isinstance(node, list):
        return [_strip(each) for each in cast("list[Any]", node)]
    return node


def relax_output(schema: dict[str, Any] | None) -> dict[str, Any] | None:
    """Return an output schema that tells the types of the members and requires none: a long result
    has a handle in their place."""
    if schema is None:
        return None
    properties: dict[str, Any] = schema.get("properties", {})
    return {
        "type": "object",
        "properties": {name: _read_type(each) for name, each in properties.items()},
    }


def _read_type(schema: Any) -> dict[str, Any]:
    kind = cast("dict[str, Any]", schema).get("type") if isinstance(schema, dict) else None
    return {"type": kind} if isinstance(kind, str | list) else {}
