"""The input of actions: how it is cleaned, and what schema and form say of it."""

from __future__ import annotations

import contextlib
from typing import Any

import jsonschema_rs
import pytest

from headgate.connectors.model.cleaning import RunOptions, clean_input, split_options
from headgate.connectors.model.errors import InvalidInputError
from headgate.connectors.model.form import build_form
from headgate.connectors.model.schema import build_input_schema, build_output_schema
from tests.fakes.sample_actions import EverythingInput, Given, Part, PingInput

PARTS = [{"role": "user", "text": "Hi"}]


def clean(**given: Any) -> EverythingInput:
    return clean_input(EverythingInput, {"parts": PARTS, **given})


@pytest.mark.parametrize(
    ("field", "value", "expected"),
    [
        *(("count", value, 7) for value in (7, "7", " 7 ", "+7", 7.0, "7.0")),
        *(("count", value, 3) for value in ("", "  ", None)),
        *(("heat", value, 0.5) for value in (0.5, "0.5", ".5", "5e-1")),
        ("heat", "1", 1.0),
        ("heat", "", 1.0),
        ("limit", "", None),
        ("limit", "5", 5),
        *(("loud", value, True) for value in (True, "true", "T", "Yes", "y", "on", "1", 1)),
        *(("loud", value, False) for value in (False, "false", "f", "No", "n", "off", "0", 0, "")),
        ("extra", '{"a": [1]}', {"a": [1]}),
        ("extra", {"a": 1}, {"a": 1}),
        ("extra", "", {}),
        ("parts", '[{"role": "user", "text": "Hi"}]', [Part(role="user", text="Hi")]),
        ("parts", [{"role": " user ", "text": ""}], [Part(role="user", text="")]),
        ("size", "large", "large"),
        ("size", "", "small"),
        ("sides", "2", 2),
        ("name", "", "none"),
        ("name", "  ", "  "),
        ("stop", ["a", "b"], ["a", "b"]),
        ("stop", "a", "a"),
        ("stop", "", None),
    ],
)
def test_what_forms_and_models_write_is_read(field: str, value: Any, expected: Any) -> None:
    assert getattr(clean(**{field: value}), field) == expected


@pytest.mark.parametrize(
    ("field", "value", "at", "says"),
    [
        ("count", "seven", "count", "whole number, not 'seven'"),
        ("count", "1.5", "count", "whole number"),
        ("count", True, "count", "whole number, not true"),
        ("count", [], "count", "not a list"),
        ("count", 11, "count", "<= 10"),
        ("count", "9" * 700, "count", "whole number"),
        ("heat", "nan", "heat", "a number"),
        ("heat", "1e999", "heat", "a number"),
        ("heat", "2.1", "heat", "<= 2"),
        ("loud", "maybe", "loud", "true or false, not 'maybe'"),
        ("loud", 2, "loud", "true or false"),
        ("extra", "[1]", "extra", "an object, not '[1]'"),
        ("extra", "{", "extra", "no JSON"),
        ("extra", "[" * 40, "extra", "no JSON"),
        ("extra", "\ud800", "extra", "no JSON"),
        ("parts", "", "parts", "empty"),
        ("parts", [], "parts", "length >= 1"),
        ("parts", {"role": "user"}, "parts", "a list, not an object"),
        ("parts", [None], "parts.0", "an object, not null"),
        ("parts", [{"role": "user"}], "parts.0.text", "missing"),
        ("parts", [{"role": "robot", "text": ""}], "parts.0.role", "one of user, system"),
        ("parts", [{**PARTS[0], "x": 1}], "parts.0.x", "no field `parts.0.x`; there are: role"),
        ("size", "huge", "size", "one of small, large; not 'huge'"),
        ("name", "x", "name", "length >= 2"),
        ("name", 5, "name", "expected str"),
        ("stop", [1], "stop.0", "expected str"),
        ("colour", 1, "colour", "There is no field `colour`"),
    ],
)
def test_what_cannot_be_read_is_an_error_that_names_the_field(
    field: str, value: Any, at: str, says: str
) -> None:
    with pytest.raises(InvalidInputError) as raised:
        clean(**{field: value})
    assert raised.value.param == at
    assert says in raised.value.message
    assert len(raised.value.message) < 400


def test_missing_field_is_named() -> None:
    with pytest.raises(InvalidInputError, match="`parts` is missing"):
        clean_input(EverythingInput, {})


ODD: list[Any] = [
    *(None, True, False, 0, -1, 2**70, 1.5, float("nan"), float("inf"), "", " ", "\0", "\ud800"),
    *("null", "true", "[]", "{}", "[" * 1_000, '{"a": ' * 1_000, "1" * 10_000, "1e400", "0x10"),
    *([], {}, [None], [[]], [{}], {"": {}}, {"role": {}}, [{"role": []}], [[[[]]]]),
]


@pytest.mark.parametrize("field", EverythingInput.__struct_fields__)
def test_any_value_is_read_or_refused_by_its_name(field: str) -> None:
    for value in ODD:
        with contextlib.suppress(InvalidInputError):
            clean(**{field: value})


def test_run_options_stand_beside_the_input() -> None:
    given = {"timeout": "2500", "connection": "mine", "count": 1}
    assert split_options(EverythingInput, given) == (RunOptions(2.5, "mine"), {"count": 1})
    assert split_options(PingInput, {"timeout": "", "connection": ""}) == (RunOptions(), {})
    for name, value in (("timeout", 0), ("timeout", "soon"), ("timeout", 3_600_001)):
        with pytest.raises(InvalidInputError, match="timeout"):
            split_options(PingInput, {name: value})
    with pytest.raises(InvalidInputError, match="connection"):
        split_options(PingInput, {"connection": {}})


def test_schema_is_written_out_and_small() -> None:
    schema = build_input_schema(EverythingInput)
    jsonschema_rs.meta.validate(schema)
    assert schema["required"] == ["parts"]
    assert schema["additionalProperties"] is False
    assert "description" not in schema
    properties = schema["properties"]
    assert properties["parts"] == {
        "type": "array",
        "title": "Parts",
        "description": "What is said.",
        "minItems": 1,
        "items": {
            "type": "object",
            "properties": {
                "role": {
                    "type": "string",
                    "title": "Role",
                    "description": "Who speaks.",
                    "enum": ["system", "user"],
                },
                "text": {"type": "string", "title": "Text"},
            },
            "required": ["role", "text"],
        },
    }
    assert properties["limit"] == {"type": "integer", "minimum": 1, "title": "Limit"}
    assert properties["extra"] == {"type": "object", "title": "Extra"}
    assert properties["stop"]["anyOf"] == [
        {"type": "string"},
        {"type": "array", "items": {"type": "string"}},
    ]
    assert {"timeout", "connection"} <= set(properties)
    short = build_input_schema(EverythingInput, is_short=True)
    assert set(short["properties"]) == set(EverythingInput.__struct_fields__)
    assert "title" not in short["properties"]["count"]


def test_what_the_schema_allows_is_read() -> None:
    schema = build_input_schema(EverythingInput, is_short=True)
    given = {"parts": PARTS, "size": "large", "count": 2, "stop": ["x"], "extra": {"k": None}}
    jsonschema_rs.validate(schema, given)
    clean_input(EverythingInput, given)


def test_output_schema_fits_the_output() -> None:
    schema = build_output_schema(Given)
    assert schema is not None
    jsonschema_rs.validate(schema, {"given": {}, "seconds": 1.0, "connection": None})
    assert build_output_schema(dict[str, Any]) is None
    assert build_output_schema(list[int]) is None


def test_form_asks_for_every_field_as_its_type_wants() -> None:
    fields = {field.name: field for field in build_form(EverythingInput)}
    assert [*fields] == [*EverythingInput.__struct_fields__, "timeout", "connection"]
    assert {name: field.kind for name, field in fields.items()} == {
        "parts": "list",
        "name": "text",
        "model": "choice",
        "size": "choice",
        "sides": "choice",
        "count": "integer",
        "heat": "number",
        "limit": "integer",
        "loud": "switch",
        "extra": "object",
        "stop": "json",
        "timeout": "integer",
        "connection": "text",
    }
    assert [each.kind for each in fields["parts"].items] == ["choice", "multiline"]
    assert fields["parts"].required
    assert fields["model"].data_source == "list-things"
    assert [(each.label, each.value) for each in fields["sides"].options] == [("1", 1), ("2", 2)]
    count = fields["count"]
    assert (count.label, count.default, count.minimum, count.maximum) == ("Count", 3, 1, 10)
    assert (fields["name"].label, fields["name"].help) == ("Name", "A name.")
    assert (fields["name"].length_min, fields["name"].length_max) == (2, 5)
