"""Bodies are read into their types, and what is wrong is named by its whole path."""

from __future__ import annotations

import json
from typing import Any

import msgspec
import pytest
from starlette.requests import Request

from headgate.api.errors import InvalidFieldError
from headgate.api.parsing import parse_body
from headgate.api.schemas.fields import Metadata, Timestamp
from headgate.api.schemas.keys import KeyCreate


class Fields(msgspec.Struct, frozen=True):
    first: dict[str, int] = {}
    metadata: Metadata = {}
    rows: list[dict[str, int]] = []
    at: Timestamp | None = None


def read(body: dict[str, Any], wanted: type[msgspec.Struct] = Fields) -> Any:
    request = Request({"type": "http", "headers": [(b"content-type", b"application/json")]})
    return parse_body(request, json.dumps(body).encode(), wanted)


@pytest.mark.parametrize(
    ("body", "loc"),
    [
        ({"first": {"a": 1, "b": "x", "c": 2}}, ("first", "b")),
        ({"metadata": {"a": "x", "b": "x" * 513}}, ("metadata", "b")),
        ({"metadata": {"a": [], "b": {}}}, ("metadata", "a")),
        ({"metadata": {"": "x"}}, ("metadata", "")),
        ({"metadata": {"a": "x", "k" * 65: "x"}}, ("metadata", "k" * 65)),
        ({"rows": [{"a": 1}, {"b": 1, "c": None}]}, ("rows", 1, "c")),
        ({"metadata": {str(n): "x" for n in range(40)}}, ("metadata",)),
    ],
)
def test_field_inside_a_map_is_named_by_its_key(
    body: dict[str, Any], loc: tuple[str | int, ...]
) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        read(body)
    assert refused.value.loc == ("body", *loc)


def test_key_is_found_among_thousands_by_halving() -> None:
    body = {"first": {f"k{n}": n if n != 7_777 else "x" for n in range(9_000)}}
    with pytest.raises(InvalidFieldError) as refused:
        read(body)
    assert refused.value.loc == ("body", "first", "k7777")


@pytest.mark.parametrize("text", ["2027-01-31T12:00:00", "2027-01-31T13:00:00+01:00"])
def test_time_without_an_offset_is_in_utc(text: str) -> None:
    assert read({"at": text}).at.timestamp() == 1_801_396_800
    issued = read({"name": "n", "expires_at": text}, KeyCreate)
    assert issued.expires_at.timestamp() == 1_801_396_800


@pytest.mark.parametrize("at", [1_801_396_800, "2027-01-31", "soon"])
def test_invalid_time_is_rejected(at: object) -> None:
    with pytest.raises(InvalidFieldError) as refused:
        read({"at": at})
    assert refused.value.loc == ("body", "at")
