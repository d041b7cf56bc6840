"""Forms of actions: the input of an action, as a page or a node of a workflow asks for it.

A form is made of the JSON Schema. What a schema cannot say stands in `msgspec.Meta.extra` of a
field: `{"form": "multiline"}` for a text of several lines, and `{"data_source": "list-models"}` for
choices that depend on the account.
"""

from __future__ import annotations

import types
import typing
from collections.abc import Mapping
from typing import Annotated, Any, cast, get_args, get_origin

import msgspec

from headgate.connectors.model.schema import Schema, build_input_schema

KINDS = {
    "string": "text",
    "integer": "integer",
    "number": "number",
    "boolean": "switch",
    "array": "list",
    "object": "object",
}
"""The kind of field for each type of JSON Schema."""


class FormOption(msgspec.Struct, frozen=True):
    """Hold a choice of a field: what people read, and what is sent."""

    label: str
    value: Any


class FormField(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a field of a form.

    `kind` is `text`, `multiline`, `integer`, `number`, `switch`, `choice`, `list`, `object` or
    `json`. Lists and objects are written as JSON where `items` is empty.
    """

    name: str
    label: str
    kind: str
    required: bool
    help: str = ""
    default: Any = None
    example: Any = None
    options: tuple[FormOption, ...] = ()
    data_source: str | None = None
    minimum: float | None = None
    maximum: float | None = None
    length_min: int | None = None
    length_max: int | None = None
    items: tuple[FormField, ...] = ()
    """The fields of an object, or of each object of a list."""


def build_form(struct: type[msgspec.Struct]) -> tuple[FormField, ...]:
    """Return the fields of an input, in the order of their declaration; those that every action
    has come last."""
    schema = build_input_schema(struct)
    return _list_fields(schema, _list_hints(struct))


Hints = Mapping[str, Any]
"""What `Meta.extra` says of the fields of a struct, and the struct of each field."""


def _list_fields(schema: Schema, hints: Hints) -> tuple[FormField, ...]:
    required = set(cast("list[str]", schema.get("required", [])))
    properties = cast("dict[str, Schema]", schema.get("properties", {}))
    return tuple(
        _build_field(name, described, hints.get(name, {}), is_required=name in required)
        for name, described in properties.items()
    )


def _build_field(name: str, schema: Schema, hint: Hints, *, is_required: bool) -> FormField:
    source = hint.get("data_source")
    inner = cast("Schema", schema.get("items", schema))
    has_fields = "properties" in inner
    examples = cast("list[Any]", schema.get("examples", []))
    return FormField(
        name=name,
        label=schema.get("title") or name.replace("_", " ").capitalize(),
        kind=_find_kind(schema, hint),
        required=is_required,
        help=schema.get("description", ""),
        default=schema.get("default"),
        example=examples[0] if examples else None,
        options=_list_options(schema),
        data_source=source,
        minimum=schema.get("minimum", schema.get("exclusiveMinimum")),
        maximum=schema.get("maximum", schema.get("exclusiveMaximum")),
        length_min=schema.get("minLength", schema.get("minItems")),
        length_max=schema.get("maxLength", schema.get("maxItems")),
        items=_list_fields(inner, hint.get("fields", {})) if has_fields else (),
    )


def _find_kind(schema: Schema, hint: Hints) -> str:
    if "enum" in schema or "data_source" in hint:
        return "choice"
    return hint.get("form") or KINDS.get(schema.get("type", ""), "json")


def _list_options(schema: Schema) -> tuple[FormOption, ...]:
    choices = cast("list[Any]", schema.get("enum", []))
    return tuple(FormOption(str(each), each) for each in choices)


def _list_hints(struct: type[msgspec.Struct], inside: tuple[type, ...] = ()) -> Hints:
    """Return what each field's `Meta.extra` says, and of nested structs, what their fields' say."""
    found: dict[str, Any] = {}
    for field in msgspec.structs.fields(struct):
        hint: dict[str, Any] = {}
        for kind in _walk(field.type):
            if isinstance(kind, msgspec.Meta):
                hint.update(kind.extra or {})
            elif isinstance(kind, type) and issubclass(kind, msgspec.Struct):
                is_new = kind not in inside
                hint["fields"] = _list_hints(kind, (*inside, kind)) if is_new else {}
        found[field.encode_name] = hint
    return found


def _walk(kind: Any) -> list[Any]:
    """Return the types and the `Meta`s that a type consists of."""
    origin = get_origin(kind)
    if origin is Annotated:
        inner, *metas = get_args(kind)
        return [*_walk(inner), *metas]
    if origin in (list, tuple, typing.Union, types.UnionType):
        return [found for each in get_args(kind) for found in _walk(each)]
    return [kind]
