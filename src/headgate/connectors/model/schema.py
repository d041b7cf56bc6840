"""JSON Schemas of action types: small, and without references where these can be written out."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, cast

import msgspec

Schema = dict[str, Any]
DEFINITIONS = "$defs"
UNREAD = (("additionalProperties", False), ("minLength", 1), ("minItems", 1))
"""What agents need not read: the action refuses other fields, and what is empty, by itself."""
SHORT_DESCRIPTION = "x-short-description"
"""The description of a field for agents, where people get a longer one; empty for none. It is a
member of `msgspec.Meta.extra_json_schema`."""
REF = "#/$defs/{name}"
RUN_OPTIONS: Mapping[str, Schema] = {
    "timeout": {
        "type": "integer",
        "minimum": 1,
        "maximum": 3_600_000,
        "description": "Time-out of the whole action, in milliseconds.",
    },
    "connection": {
        "type": "string",
        "minLength": 1,
        "maxLength": 200,
        "description": "Id or name of the credential to use. Default: the usual choice.",
    },
}
"""What every action takes beside its own input, unless that has a field of the name."""


def build_input_schema(struct: type[msgspec.Struct], *, is_short: bool = False) -> Schema:
    """Return the schema of an input. `is_short` is for agents, who read every word of it: without
    titles, with short descriptions, and without the fields of every action."""
    schema = build_schema(struct, is_short=is_short, is_input=True)
    schema.setdefault("properties", {})
    if is_short:
        return schema
    for name, described in RUN_OPTIONS.items():
        schema["properties"].setdefault(name, dict(described))
    schema["additionalProperties"] = False
    return schema


def build_output_schema(output: Any) -> Schema | None:
    """Return the schema of an output, None where nothing is known but that it is an object."""
    schema = build_schema(output)
    if schema.get("type") != "object" or not schema.get("properties"):
        return None
    return schema


def build_schema(kind: Any, *, is_short: bool = False, is_input: bool = False) -> Schema:
    """Return the schema of a type. Only types that contain themselves leave references. Of an
    input, what may be left out is not described as null, too."""
    [root], definitions = msgspec.json.schema_components([kind], ref_template=REF)
    writer = _SchemaWriter(definitions, is_short=is_short, is_input=is_input)
    schema = writer.write(root, ())
    kept = writer.list_kept()
    if kept:
        schema[DEFINITIONS] = kept
    return schema


class _SchemaWriter:
    """Write the definitions of a schema out where they are used."""

    def __init__(self, definitions: Mapping[str, Any], *, is_short: bool, is_input: bool) -> None:
        self._definitions = definitions
        self._is_short = is_short
        self._is_input = is_input
        self._recursive: list[str] = []

    def write(self, schema: Schema, inside: tuple[str, ...]) -> Schema:
        """Return a schema without references. `inside` are the definitions that it stands in."""
        name = str(schema.get("$ref", "")).rpartition("/")[2]
        if name and name in inside:
            if name not in self._recursive:
                self._recursive.append(name)
            return dict(schema)
        if name:
            own = {key: value for key, value in schema.items() if key != "$ref"}
            found = _without_class_name(self._definitions[name])
            return self.write({**found, **own}, (*inside, name))
        written: Schema = {}
        for key, value in schema.items():
            if self._is_short and (key == "title" or (key, value) in UNREAD):
                continue
            written[key] = self._write_member(key, value, inside)
        short = written.pop(SHORT_DESCRIPTION, None)
        if self._is_short and short is not None:
            written["description"] = short
            if not short:
                del written["description"]
        _add_type(written)
        return _simplify(written) if self._is_input else written

    def list_kept(self) -> Schema:
        """Return the definitions that are still referred to."""
        kept: Schema = {}
        while len(kept) < len(self._recursive):
            name = self._recursive[len(kept)]
            kept[name] = self.write(_without_class_name(self._definitions[name]), (name,))
        return kept

    def _write_member(self, key: str, value: Any, inside: tuple[str, ...]) -> Any:
        if key in ("properties", "patternProperties"):
            named = cast("dict[str, Schema]", value)
            return {name: self.write(each, inside) for name, each in named.items()}
        if key in ("anyOf", "prefixItems"):
            return [self.write(each, inside) for each in cast("list[Schema]", value)]
        if key in ("items", "additionalProperties") and isinstance(value, dict):
            return self.write(cast("Schema", value), inside)
        return copy.deepcopy(value)


def _without_class_name(definition: Schema) -> Schema:
    """Leave out the name of the class, and the docstring, which is for readers of the source. What
    a field means is said at the field."""
    own = dict(definition)
    for key in ("title", "description"):
        own.pop(key, None)
    return own


def _add_type(schema: Schema) -> None:
    """Say that a choice of texts is a text: not every client reads it off the choices."""
    choices = cast("list[Any]", schema.get("enum", []))
    if choices and all(isinstance(each, str) for each in choices):
        schema.setdefault("type", "string")
    if schema.get("required") == []:
        del schema["required"]


def _simplify(schema: Schema) -> Schema:
    """Write an optional value as the value: who does not want it leaves the field out. A default
    that says nothing is left out, too."""
    if "default" in schema and schema["default"] in (None, [], {}):
        del schema["default"]
    known = cast("list[Schema]", schema.get("anyOf", []))
    choices = [each for each in known if each.get("type") != "null"]
    if len(choices) == len(known):
        return schema
    if len(choices) == 1:
        rest = {key: value for key, value in schema.items() if key != "anyOf"}
        return {**choices[0], **rest}
    return {**schema, "anyOf": choices}
