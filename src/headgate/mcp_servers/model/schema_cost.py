"""Bounds what the validation against somebody else's schema can cost.

References let a small schema stand for a huge one: thirty definitions that each name the next one
twice are a billion checks. So the schema is counted as a validator walks it, with every reference
followed. A recursive one costs by the depth of the value, which is bounded in turn.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from headgate.mcp_servers.model.definition import UnusableDefinitionError

NODES_MAX = 10_000
WALK_DEPTH_MAX = 150
CHECKS_MAX = 100_000
VALUE_DEPTH_MAX = 64
_DYNAMIC = ("$dynamicRef", "$recursiveRef", "$id", "$anchor", "$dynamicAnchor")


class SchemaCost(msgspec.Struct):
    """Count the nodes of a schema with its references followed, and the references that lead back
    to where they stand."""

    nodes: int = 0
    recursions: int = 0

    @property
    def depth_max(self) -> int:
        """Return how deep a value may be nested, so that checking it takes bounded time."""
        if self.recursions < 2:
            return VALUE_DEPTH_MAX
        return max(2, min(VALUE_DEPTH_MAX, int(math.log(CHECKS_MAX) / math.log(self.recursions))))


def measure_schema(schema: Mapping[str, Any]) -> SchemaCost:
    """Return the cost of a schema. Raise `UnusableDefinitionError` for one that costs too much."""
    cost = SchemaCost()
    _walk(schema, schema, cost, (), 0)
    return cost


def find_depth(value: Any, depth_max: int) -> int:
    """Return how deep a value is nested; one more than the maximum for anything deeper."""
    if depth_max < 0 or not isinstance(value, dict | list):
        return 0
    children: Any = value.values() if isinstance(value, dict) else value  # pyright: ignore[reportUnknownVariableType]
    return 1 + max((find_depth(each, depth_max - 1) for each in children), default=0)


def _walk(
    root: Mapping[str, Any], node: Any, cost: SchemaCost, path: tuple[str, ...], depth: int
) -> None:
    cost.nodes += 1
    if cost.nodes > NODES_MAX or depth > WALK_DEPTH_MAX:
        raise UnusableDefinitionError("a schema has too many parts, its references followed")
    if isinstance(node, list):
        for each in node:  # pyright: ignore[reportUnknownVariableType]
            _walk(root, each, cost, path, depth + 1)
    elif isinstance(node, dict):
        _check_keywords(node, is_root=node is root)  # pyright: ignore[reportUnknownArgumentType]
        for key, each in node.items():  # pyright: ignore[reportUnknownVariableType]
            if key == "$ref" and isinstance(each, str):
                _follow(root, each, cost, path, depth)
            elif key not in ("$defs", "definitions"):
                _walk(root, each, cost, path, depth + 1)


def _follow(
    root: Mapping[str, Any], reference: str, cost: SchemaCost, path: tuple[str, ...], depth: int
) -> None:
    if reference in path:
        cost.recursions += 1
        return
    _walk(root, _resolve(root, reference), cost, (*path, reference), depth + 1)


def _resolve(root: Mapping[str, Any], reference: str) -> Any:
    node: Any = root
    if reference not in ("#", "#/") and not reference.startswith("#/"):
        raise UnusableDefinitionError("a reference in a schema is no path within it")
    for part in filter(None, reference[1:].split("/")):
        name = part.replace("~1", "/").replace("~0", "~")
        try:
            index: Any = int(name) if isinstance(node, list) else name
            node = cast(Any, node)[index]
        except (KeyError, IndexError, TypeError, ValueError):
            message = "a reference in a schema leads nowhere"
            raise UnusableDefinitionError(message) from None
    return node


def _check_keywords(node: Mapping[str, Any], *, is_root: bool) -> None:
    for name in _DYNAMIC:
        if isinstance(node.get(name), str) and not (is_root and name == "$id"):
            raise UnusableDefinitionError(f"a schema uses {name}, which is not supported here")
