"""Values that a JSON schema accepts: arguments of tool calls, structured answers."""

from __future__ import annotations

from typing import Any, cast

from headgate_simulator import content

Schema = dict[str, Any]

DEPTH_MAX = 6

_FORMATS = {
    "date-time": "2026-01-02T03:04:05Z",
    "date": "2026-01-02",
    "time": "03:04:05Z",
    "duration": "PT1H",
    "email": "simulator@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.1",
    "ipv6": "2001:db8::1",
    "uuid": "00000000-0000-4000-8000-000000000000",
    "uri": "https://example.com/",
}


def make(schema: Any, text: str = "simulated") -> Any:
    """Return a value for the schema; free strings hold `text`. Recursion ends at `DEPTH_MAX`."""
    return SchemaSampler(content.record(schema), text).make(schema, 0)


class SchemaSampler:
    """Make values for the parts of one schema, whose `$ref`s are looked up in `root`."""

    def __init__(self, root: Schema, text: str) -> None:
        self._root = root
        self._text = text

    def make(self, schema: Any, depth: int) -> Any:
        if not isinstance(schema, dict):
            return self._text
        schema = self._resolve(cast(Schema, schema))
        if "const" in schema:
            return schema["const"]
        if schema.get("enum"):
            return schema["enum"][0]
        branches = schema.get("anyOf") or schema.get("oneOf")
        if branches:
            return self.make(self._choose(branches, depth), depth)
        return self._by_type(schema, depth)

    def _resolve(self, schema: Schema) -> Schema:
        hops = 0
        while "$ref" in schema and hops < DEPTH_MAX:
            schema = {
                **self._lookup(schema["$ref"]),
                **{k: schema[k] for k in schema if k != "$ref"},
            }
            hops += 1
        merged = schema
        for part in schema.get("allOf", ()):
            merged = _merge(merged, self._resolve(part))
        return merged

    def _lookup(self, reference: str) -> Schema:
        node: Any = self._root
        for step in reference.removeprefix("#").strip("/").split("/"):
            name = step.replace("~1", "/").replace("~0", "~")
            node = content.record(node).get(name, {}) if name else node
        return cast(Schema, node)

    def _choose(self, branches: list[Schema], depth: int) -> Schema:
        if depth < DEPTH_MAX:
            return branches[0]
        return next((branch for branch in branches if branch.get("type") == "null"), branches[-1])

    def _by_type(self, schema: Schema, depth: int) -> Any:
        kind = schema.get("type")
        if isinstance(kind, list):
            kinds = cast(list[str], kind)
            kind = "null" if depth >= DEPTH_MAX and "null" in kinds else kinds[0]
        if kind == "object" or (kind is None and "properties" in schema):
            return self._object(schema, depth)
        if kind == "array":
            return self._array(schema, depth)
        if kind in ("integer", "number"):
            return _number(schema, whole=kind == "integer")
        if kind in ("boolean", "null"):
            return True if kind == "boolean" else None
        return self._string(schema)

    def _object(self, schema: Schema, depth: int) -> dict[str, Any]:
        required = schema.get("required", [])
        properties = schema.get("properties", {})
        names = [name for name in properties if name in required or depth < DEPTH_MAX // 2]
        return {name: self.make(properties[name], depth + 1) for name in names}

    def _array(self, schema: Schema, depth: int) -> list[Any]:
        if "prefixItems" in schema:
            return [self.make(item, depth + 1) for item in schema["prefixItems"]]
        size = schema.get("minItems", 1 if depth < DEPTH_MAX else 0)
        items = [self.make(schema.get("items", {}), depth + 1) for _ in range(min(size, 100))]
        if schema.get("uniqueItems"):
            items = [_vary(item, index) for index, item in enumerate(items)]
        return items

    def _string(self, schema: Schema) -> str:
        if schema.get("format") in _FORMATS:
            return _FORMATS[schema["format"]]
        text = self._text.ljust(schema.get("minLength", 0), ".")
        return text[: schema.get("maxLength", len(text))]


def _number(schema: Schema, *, whole: bool) -> int | float:
    low = schema.get("minimum", schema.get("exclusiveMinimum"))
    high = schema.get("maximum", schema.get("exclusiveMaximum"))
    step = schema.get("multipleOf", 1 if whole else 0.5)
    if low is None:
        low = min(0, high - step) if high is not None else step
    value = -(-low // step) * step
    if value == schema.get("exclusiveMinimum"):
        value += step
    if high is not None and value >= high and not whole:
        value = (low + high) / 2
    return int(value) if whole else value


def _vary(item: Any, index: int) -> Any:
    if isinstance(item, str):
        return f"{item}{index}" if index else item
    return item + index if type(item) in (int, float) else item


def _merge(left: Schema, right: Schema) -> Schema:
    merged = {**left, **right}
    for name in ("properties", "required"):
        if name in left and name in right:
            both = (left[name], right[name])
            merged[name] = {**both[0], **both[1]} if name == "properties" else [*both[0], *both[1]]
    return merged
