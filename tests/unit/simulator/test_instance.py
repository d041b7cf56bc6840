from __future__ import annotations

from typing import Any

import pytest

from headgate_simulator import instance

NODE: dict[str, Any] = {
    "type": "object",
    "properties": {
        "value": {"type": "integer"},
        "next": {"anyOf": [{"$ref": "#/$defs/node"}, {"type": "null"}]},
        "children": {"type": "array", "items": {"$ref": "#/$defs/node"}},
    },
    "required": ["value", "next", "children"],
}


@pytest.mark.parametrize(
    ("schema", "value"),
    [
        ({"const": 7}, 7),
        ({"enum": ["a", "b"]}, "a"),
        ({"type": ["string", "null"]}, "simulated"),
        ({"type": "string", "format": "date"}, "2026-01-02"),
        ({"type": "string", "minLength": 11, "maxLength": 12}, "simulated.."),
        ({"type": "string", "maxLength": 3}, "sim"),
        ({"type": "integer", "minimum": 5, "multipleOf": 4}, 8),
        ({"type": "integer", "exclusiveMinimum": 5}, 6),
        ({"type": "integer", "maximum": -3}, -4),
        ({"type": "number", "minimum": 0.1, "maximum": 0.2}, pytest.approx(0.15)),
        ({"type": "array", "items": {"type": "boolean"}, "minItems": 2}, [True, True]),
        (
            {"type": "array", "items": {"type": "integer"}, "minItems": 2, "uniqueItems": True},
            [1, 2],
        ),
        ({"type": "array", "prefixItems": [{"type": "null"}, {"const": 1}]}, [None, 1]),
        (
            {"allOf": [{"properties": {"a": {"const": 1}}}, {"properties": {"b": {"const": 2}}}]},
            {"a": 1, "b": 2},
        ),
        ({"$ref": "#/$defs/x~1y", "$defs": {"x/y": {"const": "found"}}}, "found"),
    ],
)
def test_value_fits_the_schema(schema: dict[str, Any], value: Any) -> None:
    assert instance.make(schema) == value


def test_recursive_schema_ends() -> None:
    value = instance.make({"$ref": "#/$defs/node", "$defs": {"node": NODE}})
    depth = 0
    while value is not None:
        value, depth = value["next"], depth + 1
    assert depth < 10
