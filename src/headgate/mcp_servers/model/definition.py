"""The definition of a tool that a server offers: bounded, cleaned, hashed and compared.

Whatever a server says of its tools is read by models, so it is treated as hostile: characters that
people cannot see are removed, everything has a limit, and what was approved is what is shown.
"""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Mapping
from typing import Any, TypeGuard, cast

import msgspec

NAME_CHARACTERS_MAX = 128
TEXT_CHARACTERS_MAX = 8_192
DEFINITION_BYTES_MAX = 64 * 1024
SCHEMA_DEPTH_MAX = 24
SHOWN_NAME_CHARACTERS_MAX = 48
"""Clients put a prefix such as `mcp__headgate__` in front, and allow 64 characters in all."""
DIFFERENCES_MAX = 100

_TEXT_KEYS = frozenset({"title", "description", "$comment"})
_PLAIN_NAME = re.compile(r"[a-zA-Z0-9_-]+")
_HIDDEN = frozenset({"Cc", "Cf", "Co", "Cs", "Cn", "Zl", "Zp"})
_VISIBLE = frozenset("\n\t")

_encode = msgspec.json.Encoder(order="sorted").encode


class UnusableDefinitionError(Exception):
    """Report why a definition cannot be offered to anybody."""


class ToolDefinitionRecord(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Hold the definition of a tool as its server gave it, cleaned. This is what is pinned."""

    name: str
    title: str = ""
    description: str = ""
    input_schema: dict[str, Any]
    output_schema: dict[str, Any] | None = None
    annotations: dict[str, Any] = {}


class DefinitionChange(msgspec.Struct, frozen=True):
    """Hold what changed at one place of a definition: `path` is as in `input_schema.properties.to`.
    None stands for what is not there."""

    path: str
    before: Any
    after: Any


def build_definition(
    *,
    name: str,
    title: str | None,
    description: str | None,
    input_schema: Mapping[str, Any],
    output_schema: Mapping[str, Any] | None,
    annotations: Mapping[str, Any] | None,
) -> ToolDefinitionRecord:
    """Return the cleaned definition. Raise `UnusableDefinitionError`."""
    if not name or len(name) > NAME_CHARACTERS_MAX or clean_text(name) != name or "\n" in name:
        raise UnusableDefinitionError(
            f"its name has control characters, or not 1 to {NAME_CHARACTERS_MAX} characters"
        )
    for text in (title or "", description or ""):
        if len(text) > TEXT_CHARACTERS_MAX:
            raise UnusableDefinitionError(
                f"its title or description is longer than {TEXT_CHARACTERS_MAX} characters"
            )
    definition = ToolDefinitionRecord(
        name=name,
        title=clean_text(title or ""),
        description=clean_text(description or ""),
        input_schema=_clean_input_schema(input_schema),
        # Another result than an object is not carried as structured content here.
        output_schema=_clean_schema(output_schema) if _is_object(output_schema) else None,
        annotations=_clean_annotations(annotations or {}),
    )
    try:
        size = len(_encode(definition))
    except (OverflowError, TypeError, ValueError) as error:
        raise UnusableDefinitionError("it is no JSON that can be stored") from error
    if size > DEFINITION_BYTES_MAX:
        raise UnusableDefinitionError(f"it is larger than {DEFINITION_BYTES_MAX} bytes")
    return definition


def is_same(before: object, after: object) -> bool:
    """Return whether two values are the same JSON: to Python, 1 and true are equal."""
    return _encode(before) == _encode(after)


def encode_definition(definition: ToolDefinitionRecord) -> bytes:
    """Return everything that a definition says, as canonical JSON."""
    return _encode(definition)


def hash_definition(definition: ToolDefinitionRecord) -> str:
    """Return the hash over everything that a definition says."""
    return hashlib.sha256(encode_definition(definition)).hexdigest()


def find_differences(
    before: ToolDefinitionRecord, after: ToolDefinitionRecord
) -> tuple[DefinitionChange, ...]:
    """Return what changed, at most a hundred places, in the order of their paths."""
    found: list[DefinitionChange] = []
    _compare("", msgspec.to_builtins(before), msgspec.to_builtins(after), found)
    return tuple(found[:DIFFERENCES_MAX])


def make_tool_name(server_name: str, name: str) -> str:
    """Return the name under which agents see a tool: `server_name`, of safe characters, and short
    enough for the prefixes of clients. Of different tools it is different."""
    whole = f"{server_name}_{name}"
    if _PLAIN_NAME.fullmatch(name) and len(whole) <= SHOWN_NAME_CHARACTERS_MAX:
        return whole
    mark = hashlib.sha256(name.encode()).hexdigest()[:8]
    plain = re.sub(r"[^a-zA-Z0-9_-]+", "_", whole)
    return f"{plain[: SHOWN_NAME_CHARACTERS_MAX - len(mark) - 1]}_{mark}"


def clean_text(text: str) -> str:
    """Return a text without the characters that people cannot see: controls, marks of direction,
    invisible letters, private ones. Line breaks and tabs stay."""
    return "".join(
        each
        for each in text
        if each in _VISIBLE
        or (unicodedata.category(each) not in _HIDDEN and not "\ufe00" <= each <= "\ufe0f")
    )


def _is_object(schema: Mapping[str, Any] | None) -> TypeGuard[Mapping[str, Any]]:
    return schema is not None and schema.get("type", "object") == "object"


def _clean_input_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    if not _is_object(schema):
        raise UnusableDefinitionError("its input schema is not that of an object")
    return _clean_schema(schema)


def _clean_schema(schema: Mapping[str, Any]) -> dict[str, Any]:
    cleaned: dict[str, Any] = _clean_value(schema, 0)
    cleaned.setdefault("type", "object")
    return cleaned


def _clean_value(value: Any, depth: int) -> Any:
    if depth > SCHEMA_DEPTH_MAX:
        raise UnusableDefinitionError(f"a schema is nested deeper than {SCHEMA_DEPTH_MAX}")
    if isinstance(value, Mapping):
        return {
            str(key): _clean_member(str(key), each, depth)  # pyright: ignore[reportUnknownArgumentType]
            for key, each in value.items()  # pyright: ignore[reportUnknownVariableType]
        }
    if isinstance(value, list | tuple):
        return [_clean_value(each, depth + 1) for each in value]  # pyright: ignore[reportUnknownVariableType]
    return value


def _clean_member(key: str, value: Any, depth: int) -> Any:
    if key in ("$ref", "$dynamicRef", "$recursiveRef") and not str(value).startswith("#"):
        raise UnusableDefinitionError("a schema refers to another document")
    if isinstance(value, str) and key in _TEXT_KEYS:
        return clean_text(value)
    return _clean_value(value, depth + 1)


def _clean_annotations(annotations: Mapping[str, Any]) -> dict[str, Any]:
    """Return the hints of the protocol; others say nothing to anybody."""
    hints = ("readOnlyHint", "destructiveHint", "idempotentHint", "openWorldHint")
    kept: dict[str, Any] = {
        name: annotations[name] for name in hints if isinstance(annotations.get(name), bool)
    }
    title = annotations.get("title")
    if isinstance(title, str):
        kept["title"] = clean_text(title)[:TEXT_CHARACTERS_MAX]
    return kept


def _compare(path: str, before: Any, after: Any, found: list[DefinitionChange]) -> None:
    if is_same(before, after) or len(found) >= DIFFERENCES_MAX:
        return
    if isinstance(before, dict) and isinstance(after, dict):
        old = cast(Mapping[str, Any], before)
        new = cast(Mapping[str, Any], after)
        for key in sorted({*old, *new}):
            _compare(f"{path}.{key}" if path else key, old.get(key), new.get(key), found)
        return
    found.append(DefinitionChange(path, before, after))


def describe_skipped(name: str, reason: str) -> tuple[str, str]:
    """Return a refused tool for a list of them, its name made readable."""
    return clean_text(name)[:NAME_CHARACTERS_MAX].replace("\n", " "), reason
