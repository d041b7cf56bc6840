"""What a server says of its tools: cleaned, bounded, hashed, compared, and given safe names."""

from __future__ import annotations

import re
from typing import Any

import pytest

from headgate.connectors.model.errors import InvalidInputError
from headgate.mcp_servers.model.definition import (
    ToolDefinitionRecord,
    UnusableDefinitionError,
    build_definition,
    find_differences,
    hash_definition,
    make_tool_name,
)
from headgate.mcp_servers.service.schemas import (
    check_arguments,
    check_schemas,
    find_result_fault,
)

TEXT: dict[str, Any] = {"type": "string"}


def build(schema: dict[str, Any] | None = None, **more: Any) -> ToolDefinitionRecord:
    given: dict[str, Any] = {
        "name": "send",
        "title": None,
        "description": "Send a message.",
        "input_schema": schema or {"type": "object"},
        "output_schema": None,
        "annotations": None,
    }
    definition = build_definition(**{**given, **more})
    check_schemas(definition)
    return definition


def nest(depth: int) -> dict[str, Any]:
    schema: dict[str, Any] = {"type": "object"}
    for _ in range(depth):
        schema = {"type": "object", "properties": {"a": schema}}
    return schema


def laugh(levels: int) -> dict[str, Any]:
    """A schema that costs two to the power of `levels`, if every reference is followed."""
    definitions: dict[str, Any] = {
        f"a{n}": {"anyOf": [{"$ref": f"#/$defs/a{n + 1}"}, {"$ref": f"#/$defs/a{n + 1}"}]}
        for n in range(levels)
    }
    definitions[f"a{levels}"] = {"type": "object"}
    return {"$defs": definitions, "properties": {"x": {"$ref": "#/$defs/a0"}}}


@pytest.mark.parametrize(
    "given",
    [
        {"name": ""},
        {"name": "se\x00nd"},
        {"name": "se\u202end"},
        {"name": "send\n"},
        {"name": "a" * 129},
        {"description": "a" * 8193},
        {"schema": {"type": "array"}},
        {"schema": {"type": "object", "properties": {"a": {"enum": ["b" * 70_000]}}}},
        {"schema": nest(40)},
        {"schema": laugh(30)},
        {"schema": {"properties": {"a": {"$ref": "https://evil.example/schema.json"}}}},
        {"schema": {"properties": {"a": {"$ref": "other.json#/a"}}}},
        {"schema": {"properties": {"a": {"$dynamicRef": "#a"}}}},
        {"schema": {"properties": {"a": {"$id": "https://evil.example/", "$ref": "#/b"}}}},
        {"schema": {"properties": {"a": {"$ref": "#/$defs/none"}}}},
        {"schema": {"$schema": "https://evil.example/meta"}},
        {"schema": {"properties": {"a": {"type": "nothing"}}}},
        {"schema": {"properties": {"a": {"pattern": "("}}}},
        {"schema": {"properties": {"a": {"const": "\ud800"}}}},
    ],
    ids=lambda given: str(given)[:60],
)
def test_definition_that_is_hostile_or_broken_is_refused(given: dict[str, Any]) -> None:
    with pytest.raises(UnusableDefinitionError):
        build(**given)


def test_text_that_nobody_can_see_is_removed_from_what_models_read() -> None:
    hidden = "Send\u200b a\u202e mess\U000e0041\U000e0042age\ufe0f.\nNow.\x1b"
    definition = build(
        {"properties": {"to": {"type": "string", "description": hidden, "const": hidden}}},
        description=hidden,
        title=hidden,
    )
    assert definition.description == definition.title == "Send a message.\nNow."
    field = definition.input_schema["properties"]["to"]
    assert (field["description"], field["const"]) == ("Send a message.\nNow.", hidden)


def test_hash_covers_every_part_and_only_what_differs() -> None:
    parts: list[dict[str, Any]] = [
        {},
        {"name": "transmit"},
        {"title": "Send"},
        {"description": "Send a mail."},
        {"schema": {"type": "object", "properties": {"to": TEXT}}},
        {"output_schema": {"type": "object"}},
        {"annotations": {"destructiveHint": False}},
        {"schema": {"type": "object", "properties": {"to": {"default": 1}}}},
        {"schema": {"type": "object", "properties": {"to": {"default": True}}}},
    ]
    definitions = [build(**given) for given in parts]
    assert len({hash_definition(each) for each in definitions}) == len(parts)
    swapped = build({"properties": {"to": TEXT}, "type": "object"})
    assert hash_definition(swapped) == hash_definition(definitions[4])
    [change] = find_differences(definitions[7], definitions[8])
    assert (change.path, change.before, change.after) == (
        "input_schema.properties.to.default",
        1,
        True,
    )


def test_names_for_agents_are_safe_short_and_different() -> None:
    names = ["send", "send.mail", "send/mail", "send mail", "a" * 100, "a" * 99 + "b", "ü", "ö"]
    shown = [make_tool_name("tracker", name) for name in names]
    assert shown[0] == "tracker_send"
    assert len(set(shown)) == len(names)
    assert all(re.fullmatch(r"tracker_[a-zA-Z0-9_-]{1,40}", each) for each in shown)


def test_arguments_are_checked_against_the_pinned_schema_and_the_field_is_named() -> None:
    definition = build({"properties": {"to": TEXT, "count": {"maximum": 3}}, "required": ["to"]})
    check_arguments(definition, {"to": "a", "count": 3})
    with pytest.raises(InvalidInputError, match='"to" is a required property'):
        check_arguments(definition, {})
    with pytest.raises(InvalidInputError, match="maximum of 3") as caught:
        check_arguments(definition, {"to": "a", "count": 4})
    assert caught.value.param == "count"


def test_checking_takes_bounded_time_whatever_schema_and_arguments_are() -> None:
    slow = build({"properties": {"a": {"pattern": r"^(?=(a+)+$)(a+)+\1$"}}})
    with pytest.raises(InvalidInputError):
        check_arguments(slow, {"a": "a" * 50_000 + "!"})
    twice = {"anyOf": [{"$ref": "#/$defs/n"}, {"$ref": "#/$defs/n"}], "type": "object"}
    recursive = build({"$defs": {"n": {"properties": {"a": twice}}}, "properties": {"a": twice}})
    with pytest.raises(InvalidInputError, match="nested deeper"):
        check_arguments(recursive, nest(30)["properties"])
    tree = build({"properties": {"children": {"items": {"$ref": "#"}}}})
    deep: dict[str, Any] = {}
    for _ in range(20):
        deep = {"children": [deep]}
    check_arguments(tree, deep)


def test_schemas_that_multiply_their_own_work_are_refused() -> None:
    def double(levels: int) -> dict[str, Any]:
        each = {f"a{n}": {"allOf": [{"$ref": f"#/$defs/a{n + 1}"}] * 2} for n in range(levels)}
        return {**each, f"a{levels}": {"minLength": 1}}

    nested: dict[str, Any] = {}
    for _ in range(10):
        nested = {"anyOf": [nested], "unevaluatedProperties": False}
    # The name of a field is no keyword.
    named = {"properties": {"definitions": {"$ref": "#/$defs/a0"}}, "$defs": double(40)}
    for schema in (named, nested, {"$schema": "http://json-schema.org/draft-04/schema#"}):
        with pytest.raises(UnusableDefinitionError):
            check_schemas(build(schema))


def test_a_value_of_many_parts_is_checked_in_bounded_time() -> None:
    objects = [{"a": n} for n in range(2_000)]
    unlike = build({"properties": {"l": {"items": {"not": {"enum": objects}}}}})
    with pytest.raises(InvalidInputError, match="too many parts"):
        check_arguments(unlike, {"l": [{"a": -1}] * 20_000})
    choice = build({"properties": {"l": {"items": {"anyOf": [{"type": "string"}] * 200}}}})
    with pytest.raises(InvalidInputError, match="not valid under any") as caught:
        check_arguments(choice, {"l": [1] * 5_000})
    assert caught.value.param == "l.0"
    fields = {f"field_{n}": {"type": ["string", "null"]} for n in range(200)}
    honest = build({"properties": {"rows": {"items": {"properties": fields}}}})
    check_arguments(honest, {"rows": [dict.fromkeys(fields, "text")] * 1_000})


def test_results_are_checked_against_the_pinned_output_schema() -> None:
    plain = build()
    assert find_result_fault(plain, None) == ""
    typed = build(output_schema={"type": "object", "properties": {"n": {"type": "integer"}}})
    assert find_result_fault(typed, {"n": 1}) == ""
    assert "no structured content" in find_result_fault(typed, None)
    assert find_result_fault(typed, {"n": "x"}).startswith("n: ")
    array = build(output_schema={"type": "array"})
    assert array.output_schema is None
