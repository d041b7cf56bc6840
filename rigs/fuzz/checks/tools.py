"""Check definitions of tools, as other MCP servers write them."""

from __future__ import annotations

import contextlib
import json
import re
from typing import Any

import msgspec

from headgate.connectors.model.errors import InvalidInputError
from headgate.mcp_servers.model.definition import (
    ToolDefinitionRecord,
    UnusableDefinitionError,
    build_definition,
    find_differences,
    hash_definition,
    make_tool_name,
)
from headgate.mcp_servers.service.schemas import check_arguments, check_schemas

SHOWN_NAME = re.compile(r"tracker_[a-zA-Z0-9_-]{1,40}")


def check_tool_definition(data: bytes) -> None:
    """A definition is refused, or is stored and cleaned again without a change, has a safe name,
    and checks any arguments."""
    try:
        given: Any = json.loads(data)
    except (ValueError, RecursionError):
        return
    if not isinstance(given, dict):
        return
    try:
        definition = _build(given)  # pyright: ignore[reportUnknownArgumentType]
        check_schemas(definition)
    except UnusableDefinitionError:
        return
    stored = msgspec.json.decode(msgspec.json.encode(definition), type=ToolDefinitionRecord)
    again = _build(msgspec.to_builtins(definition))
    assert hash_definition(stored) == hash_definition(definition) == hash_definition(again)
    assert find_differences(definition, stored) == ()
    assert SHOWN_NAME.fullmatch(make_tool_name("tracker", definition.name))
    for arguments in ({}, {"a": 1}, {"a": [{"a": "b"}]}):
        with contextlib.suppress(InvalidInputError):
            check_arguments(definition, arguments)


def _build(given: dict[str, Any]) -> ToolDefinitionRecord:
    """Return the definition of a JSON object, with members of the types that the SDK lets
    through."""
    schemas = [given.get(name) for name in ("input_schema", "output_schema", "annotations")]
    schema, output, hints = (each if isinstance(each, dict) else None for each in schemas)  # pyright: ignore[reportUnknownVariableType]
    texts = [given.get(name) for name in ("name", "title", "description")]
    name, title, description = (each if isinstance(each, str) else "" for each in texts)
    return build_definition(
        name=name,
        title=title,
        description=description,
        input_schema=schema or {},  # pyright: ignore[reportUnknownArgumentType]
        output_schema=output,  # pyright: ignore[reportUnknownArgumentType]
        annotations=hints,  # pyright: ignore[reportUnknownArgumentType]
    )
