"""The platform API as it is declared: complete, described, and as it is checked in."""

from __future__ import annotations

import inspect
import re
import tomllib
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import msgspec
import pytest

from headgate.api.access import Audience
from headgate.api.openapi import DESCRIPTIONS, build_document
from headgate.api.operation import Operation
from headgate.api.platform import encode_document
from headgate.api.routes import ALL

ROOT = Path(__file__).parents[2]
OPERATIONS = [operation for operations in ALL for operation in operations.all]


def test_checked_in_document_is_the_one_that_is_served() -> None:
    document = encode_document(build_document(ALL))
    stored = (ROOT / "docs" / "openapi.json").read_bytes()
    assert stored == document, "run: .venv/bin/python tools/openapi.py"


def list_descriptions(node: Any) -> Iterator[str]:
    """Every description in a document, at any depth."""
    if isinstance(node, dict):
        for name, value in cast("dict[str, Any]", node).items():
            if name == "description" and isinstance(value, str):
                yield value
            yield from list_descriptions(value)
    elif isinstance(node, list):
        for value in cast("list[Any]", node):
            yield from list_descriptions(value)


def test_descriptions_are_sentences_without_indentation() -> None:
    for text in list_descriptions(build_document(ALL)):
        assert not re.search(r"(?m)^\s|\s$", text), text
        assert "\n" not in text.replace("\n\n", ""), text
        assert text.endswith("."), text


def test_every_description_of_a_field_is_used() -> None:
    texts = tomllib.loads(DESCRIPTIONS.read_text())
    shared, nouns, types = (texts.pop(name) for name in ("fields", "objects", "types"))
    components = build_document(ALL)["components"]["schemas"]
    assert {*nouns, *types, *texts} <= {*components}
    fields = {name: {*component.get("properties", ())} for name, component in components.items()}
    for name, own in texts.items():
        assert {*own} <= fields[name], name
    parameters = {found for each in OPERATIONS for found in re.findall(r"{(\w+)", each.path)}
    assert {*shared} <= parameters.union(*(fields[n] - {*texts.get(n, ())} for n in fields))


VERBS = {
    "Send",
    "Accept",
    "Add",
    "Approve",
    "Archive",
    "Block",
    "Browse",
    "Change",
    "Create",
    "Delete",
    "Disable",
    "Enable",
    "End",
    "Finish",
    "Invite",
    "List",
    "Make",
    "Read",
    "Recompute",
    "Refresh",
    "Register",
    "Remove",
    "Rename",
    "Replace",
    "Resume",
    "Revoke",
    "Run",
    "Rotate",
    "Set",
    "Sign",
    "Start",
    "Store",
    "Suspend",
    "Test",
}


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_summary_is_short_and_opens_with_a_verb(operation: Operation) -> None:
    words = operation.summary.split()
    assert words[0] in VERBS
    assert len(words) <= 8
    assert not operation.summary.endswith(".")


def test_each_module_of_routes_is_served() -> None:
    files = (ROOT / "src/headgate/api/routes").glob("[a-z]*.py")
    served = {operation.handler.__module__.rpartition(".")[2] for operation in OPERATIONS}  # type: ignore[attr-defined]
    assert {file.stem for file in files} == served


def test_ids_and_addresses_are_unique() -> None:
    ids = [operation.id for operation in OPERATIONS]
    places = [(operation.method, operation.path) for operation in OPERATIONS]
    assert len(set(ids)) == len(ids)
    assert len(set(places)) == len(places)


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_operation_is_whole(operation: Operation) -> None:
    assert operation.description
    assert operation.path.startswith(("/api/", "/v1/"))
    assert not operation.access.own_key or "own_key_id" in inspect.getsource(operation.handler)
    audience = operation.access.audience
    if audience in (Audience.ORGANIZATION, Audience.PLATFORM) and operation.access.permission:
        verb = operation.access.permission.partition(":")[2]
        assert verb in ("read", "write")
        assert verb == "write" or not operation.changes
    if operation.method in ("POST", "PUT", "PATCH") and operation.body.__struct_fields__:
        assert operation.example is not None, "a body needs an example"


def list_structs(kind: object) -> Iterator[type[msgspec.Struct]]:
    """Every struct that a type consists of."""
    waiting: list[object] = [kind]
    seen: set[object] = set()
    while waiting:
        each = waiting.pop()
        if isinstance(each, type) and issubclass(each, msgspec.Struct) and each not in seen:
            seen.add(each)
            yield each
            waiting += typing.get_type_hints(each).values()
        waiting += typing.get_args(each)


WRITTEN_BY_OTHERS = {"AnyQuery", "OidcReturn"}
"""Queries that an issuer writes, with fields of its own (OAuth 2.0 4.1.2: ignore these), and the
input of actions, which is checked by the type of the action."""


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_no_unknown_field_is_taken(operation: Operation) -> None:
    for root in (operation.query, operation.body):
        for struct in list_structs(root):
            if struct.__name__ in WRITTEN_BY_OTHERS:
                continue
            assert struct.__struct_config__.forbid_unknown_fields, struct


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda operation: operation.id)
def test_operation_looks_at_versions_if_it_says_so(operation: Operation) -> None:
    assert ("check_version(" in inspect.getsource(operation.handler)) is operation.is_versioned
