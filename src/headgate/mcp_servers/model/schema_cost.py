"""Bounds what the validation against somebody else's schema can cost.

References let a small schema stand for a huge one: thirty definitions that each name the next one
twice are a billion checks. So the schema is counted as a validator walks it, with every reference
followed. A recursive one costs by the depth of the value, which is bounded in turn. And a value of
many parts is checked only where all of them together take bounded time.
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
WIDTH_MAX = 100_000
WORK_MAX = 5_000_000
"""Checks of one value; some take a millionth of a second, and the process waits meanwhile."""
PATTERN_WIDTH = 30
"""A regular expression takes the time of this many other checks."""
UNEVALUATED_WIDTH = 4
"""A schema that asks what its parts left over walks them again, and so do these."""
TEXT_CHARACTERS = 64
"""A text costs as another value for each so many characters."""
_MAPS = frozenset({"properties", "patternProperties", "dependentSchemas", "dependencies"})
"""Their keys are names of fields, and no keywords."""
_DYNAMIC = ("$dynamicRef", "$recursiveRef", "$id", "$anchor", "$dynamicAnchor")


class SchemaCost(msgspec.Struct):
    """Count the nodes of a schema with its references followed, and the references that lead back
    to where they stand. `width` is how many checks apply at most to one place of a value."""

    nodes: int = 0
    recursions: int = 0
    width: int = 0

    @property
    def depth_max(self) -> int:
        """Return how deep a value may be nested, so that checking it takes bounded time."""
        if self.recursions < 2:
            return VALUE_DEPTH_MAX
        return max(2, min(VALUE_DEPTH_MAX, int(math.log(CHECKS_MAX) / math.log(self.recursions))))

    def compute_work(self, value: Any, depth: int) -> int:
        """Return the number of checks that a value of this depth takes at most."""
        branches = self.recursions**depth if self.recursions > 1 else 1
        return self.width * branches * _count(value)


def measure_schema(schema: Mapping[str, Any]) -> SchemaCost:
    """Return the cost of a schema. Raise `UnusableDefinitionError` for one that costs too much."""
    cost = SchemaCost()
    cost.width = _walk(schema, schema, cost, (), 0)
    if cost.width > WIDTH_MAX:
        raise UnusableDefinitionError("a schema takes too long to check")
    return cost


def find_depth(value: Any, depth_max: int) -> int:
    """Return how deep a value is nested; one more than the maximum for anything deeper."""
    if depth_max < 0 or not isinstance(value, dict | list):
        return 0
    children: Any = value.values() if isinstance(value, dict) else value  # pyright: ignore[reportUnknownVariableType]
    return 1 + max((find_depth(each, depth_max - 1) for each in children), default=0)


def _count(value: Any) -> int:
    """Return how many parts a value has. Its depth is bounded."""
    if isinstance(value, dict):
        return 1 + sum(_count(key) + _count(each) for key, each in value.items())  # pyright: ignore[reportUnknownVariableType, reportUnknownArgumentType]
    if isinstance(value, list):
        return 1 + sum(map(_count, value))  # pyright: ignore[reportUnknownArgumentType]
    return 1 + len(value) // TEXT_CHARACTERS if isinstance(value, str) else 1


def _walk(
    root: Mapping[str, Any], node: Any, cost: SchemaCost, path: tuple[str, ...], depth: int
) -> int:
    """Count a node and what is below it; return its width."""
    _enter(cost, depth)
    if isinstance(node, list):
        return 1 + sum(_walk(root, each, cost, path, depth + 1) for each in node)  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(node, dict):
        return 1
    known = cast(Mapping[str, Any], node)
    _check_keywords(known, is_root=node is root)
    width = 1
    for key, each in known.items():
        if key == "$ref" and isinstance(each, str):
            width += _follow(root, each, cost, path, depth)
        elif key in _MAPS and isinstance(each, dict):
            width += _walk_map(root, key, cast(Mapping[str, Any], each), cost, path, depth + 1)
        elif key not in ("$defs", "definitions"):
            width += _walk(root, each, cost, path, depth + 1)
    width += PATTERN_WIDTH * ("pattern" in known)
    is_walked_again = "unevaluatedProperties" in known or "unevaluatedItems" in known
    return width * UNEVALUATED_WIDTH if is_walked_again else width


def _walk_map(
    root: Mapping[str, Any],
    keyword: str,
    schemas: Mapping[str, Any],
    cost: SchemaCost,
    path: tuple[str, ...],
    depth: int,
) -> int:
    """Count schemas by names, whatever these are; return their width. Of properties only one
    applies to a place of a value."""
    _enter(cost, depth)
    widths = [_walk(root, each, cost, path, depth + 1) for each in schemas.values()]
    if keyword == "properties":
        return 1 + max(widths, default=0)
    return 1 + sum(widths) + PATTERN_WIDTH * len(widths)


def _enter(cost: SchemaCost, depth: int) -> None:
    cost.nodes += 1
    if cost.nodes > NODES_MAX or depth > WALK_DEPTH_MAX:
        raise UnusableDefinitionError("a schema has too many parts, its references followed")


def _follow(
    root: Mapping[str, Any], reference: str, cost: SchemaCost, path: tuple[str, ...], depth: int
) -> int:
    if reference in path:
        cost.recursions += 1
        return 1
    return _walk(root, _resolve(root, reference), cost, (*path, reference), depth + 1)


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
    if "draft-04" in str(node.get("$schema", "")) or "draft-03" in str(node.get("$schema", "")):
        # There `id` moves what references are relative to.
        raise UnusableDefinitionError("a schema is written in a draft older than 6")
