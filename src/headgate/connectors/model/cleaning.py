"""Clean the input of an action: what forms and models write, as the types that the action declares.

Numbers may be text, and switches words; objects and lists may be JSON text; what is empty takes the
default. What cannot be read is an error that names the field, and never a default.
"""

from __future__ import annotations

import functools
import math
import re
import types
import typing
from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, TypeVar, cast, get_args, get_origin

import msgspec

from headgate.connectors.model.errors import InvalidInputError
from headgate.connectors.model.schema import RUN_OPTIONS
from headgate.kit import json_limits
from headgate.kit.json_limits import JsonLimitError, JsonLimits

StructT = TypeVar("StructT", bound=msgspec.Struct)

TRUE_WORDS = frozenset({"true", "t", "yes", "y", "on", "1"})
FALSE_WORDS = frozenset({"false", "f", "no", "n", "off", "0"})
INTEGER = re.compile(r"[+-]?\d{1,300}(?:\.0+)?", re.ASCII)
NUMBER = re.compile(
    r"[+-]?(?:\d{1,300}\.?\d{0,300}|\.\d{1,300})(?:e[+-]?\d{1,4})?", re.ASCII | re.I
)
TEXT_LIMITS = JsonLimits(depth_max=32, keys_max=10_000, items_max=50_000)
MILLISECONDS = 1_000
SHOWN_CHARACTERS_MAX = 60
_WHERE = re.compile(r"(?P<what>.*) - at `(?:key in )?\$(?P<path>.*)`", re.DOTALL)


class RunOptions(msgspec.Struct, frozen=True):
    """Hold what a caller said beside the input: how long the action may take, and with which
    credential it runs. None for the usual."""

    timeout_seconds: float | None = None
    connection: str | None = None


def clean_input(struct: type[StructT], given: Mapping[str, Any]) -> StructT:
    """Return the input of an action. Raise `InvalidInputError`."""
    return cast("StructT", _convert(_clean_struct(struct, given, ""), struct))


def split_options(
    struct: type[msgspec.Struct], given: Mapping[str, Any]
) -> tuple[RunOptions, dict[str, Any]]:
    """Return what was said of the run, and the input itself. A field that the input declares
    belongs to the input. Raise `InvalidInputError`."""
    own = _list_fields(struct)
    rest = {name: value for name, value in given.items() if name in own or name not in RUN_OPTIONS}
    timeout = None if "timeout" in own else read_timeout(given.get("timeout"))
    connection = None if "connection" in own else _read_connection(given.get("connection"))
    return RunOptions(timeout, connection), rest


def read_timeout(value: Any) -> float | None:
    """Return a time-out in seconds, of one in milliseconds; None without one. Raise
    `InvalidInputError`."""
    cleaned = _clean_number(value, "timeout", is_integer=False)
    if cleaned is None or cleaned == "":
        return None
    bound = RUN_OPTIONS["timeout"]["maximum"]
    if not 0 < cleaned <= bound:
        raise InvalidInputError(
            f"`timeout` is a number of milliseconds from 1 to {bound}.", param="timeout"
        )
    return cleaned / MILLISECONDS


def _read_connection(value: Any) -> str | None:
    if value is None or value == "":
        return None
    if not isinstance(value, str) or len(value) > RUN_OPTIONS["connection"]["maxLength"]:
        raise InvalidInputError(
            "`connection` is the id or the name of a credential.", param="connection"
        )
    return value


class _Field(msgspec.Struct, frozen=True):
    kind: Any
    """The type without its limits, and without None."""
    required: bool


@functools.lru_cache(maxsize=1024)
def _list_fields(struct: type[msgspec.Struct]) -> Mapping[str, _Field]:
    """Return the fields of a struct by the names that are sent."""
    return {
        field.encode_name: _Field(_unwrap(field.type), field.required)
        for field in msgspec.structs.fields(struct)
    }


def _clean_struct(
    struct: type[msgspec.Struct], given: Mapping[str, Any], path: str
) -> dict[str, Any]:
    """Return the fields with values that are read. What is empty is left out."""
    fields = _list_fields(struct)
    for name in given:
        if name not in fields:
            known = ", ".join(fields) or "none"
            raise InvalidInputError(
                f"There is no field `{_show(path + name)}`; there are: {known}.",
                param=_show(path + name),
            )
    cleaned: dict[str, Any] = {}
    for name, field in fields.items():
        if name not in given:
            if field.required:
                raise InvalidInputError(f"`{path}{name}` is missing.", param=path + name)
            continue
        value, kind = given[name], field.kind
        if _is_empty(value, kind):
            if not field.required:
                continue
            # An empty text may be meant; its limits decide. Nothing else is ever empty.
            if value is None or kind is not str:
                raise InvalidInputError(f"`{path}{name}` is empty.", param=path + name)
        cleaned[name] = _clean(value, kind, path + name)
    return cleaned


def _is_empty(value: Any, kind: Any) -> bool:
    """Return whether a value says nothing: None, and blank text. For a field of text, blanks are
    text."""
    if value is None:
        return True
    return isinstance(value, str) and not (value.strip() if kind is not str else value)


def _unwrap(kind: Any) -> Any:
    """Return a type without its limits and without None; a choice of several types stays one."""
    while get_origin(kind) is Annotated:
        kind = get_args(kind)[0]
    if get_origin(kind) in (typing.Union, types.UnionType):
        choices = [each for each in get_args(kind) if each not in (type(None), msgspec.UnsetType)]
        if len(choices) == 1:
            return _unwrap(choices[0])
    return kind


def _clean(value: Any, kind: Any, path: str) -> Any:
    if kind is bool:
        return _clean_switch(value, path)
    if kind in (int, float):
        return _clean_number(value, path, is_integer=kind is int)
    origin = get_origin(kind) or kind
    if origin in (list, tuple) or origin is Sequence:
        return _clean_list(value, kind, path)
    if origin in (dict, Mapping):
        return _clean_object(value, path)
    if isinstance(kind, type) and issubclass(kind, msgspec.Struct):
        return _clean_struct(kind, _clean_object(value, path), f"{path}.")
    return _clean_choice(value, get_args(kind), path) if origin is Literal else value


def _clean_choice(value: Any, choices: tuple[Any, ...], path: str) -> Any:
    """Return the choice that is given, or spelled by a text."""
    spelled = value.strip() if isinstance(value, str) else value
    for each in choices:
        if each == spelled or str(each) == spelled:
            return each
    known = ", ".join(map(str, choices))
    raise InvalidInputError(f"`{path}` is one of {known}; not {_quote(value)}.", param=path)


def _clean_switch(value: Any, path: str) -> bool:
    if isinstance(value, bool):
        return value
    word = str(value).strip().lower() if isinstance(value, str | int) else ""
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise InvalidInputError(f"`{path}` is true or false, not {_quote(value)}.", param=path)


def _clean_number(value: Any, path: str, *, is_integer: bool) -> Any:
    """Return a number, of a number or its text; None and empty text as they are."""
    if value is None or value == "":
        return value
    number: int | float | None = None
    if isinstance(value, str):
        text = value.strip()
        if INTEGER.fullmatch(text):
            number = int(text.partition(".")[0])
        elif NUMBER.fullmatch(text):
            number = float(text)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        number = value
    if isinstance(number, float) and is_integer:
        number = int(number) if number.is_integer() else None
    if number is None or (isinstance(number, float) and not math.isfinite(number)):
        noun = "a whole number" if is_integer else "a number"
        raise InvalidInputError(f"`{path}` is {noun}, not {_quote(value)}.", param=path)
    return number


def _clean_list(value: Any, kind: Any, path: str) -> list[Any]:
    found = _parse_json(value, path, "a list") if isinstance(value, str) else value
    if not isinstance(found, list | tuple):
        raise InvalidInputError(f"`{path}` is a list, not {_quote(value)}.", param=path)
    items = list(cast("Sequence[Any]", found))
    arguments = get_args(kind)
    if not arguments:
        return items
    inner = _unwrap(arguments[0])
    return [_clean(each, inner, f"{path}.{index}") for index, each in enumerate(items)]


def _clean_object(value: Any, path: str) -> dict[str, Any]:
    found = _parse_json(value, path, "an object") if isinstance(value, str) else value
    if not isinstance(found, dict):
        raise InvalidInputError(f"`{path}` is an object, not {_quote(value)}.", param=path)
    return cast("dict[str, Any]", found)


def _parse_json(text: str, path: str, noun: str) -> Any:
    data = text.encode("utf-8", "surrogatepass")
    try:
        json_limits.check(data, TEXT_LIMITS)
        return msgspec.json.decode(data)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, JsonLimitError) as error:
        raise InvalidInputError(
            f"`{path}` is {noun}, or JSON text of one; this text is no JSON.", param=path
        ) from error


def _convert(values: dict[str, Any], struct: type[msgspec.Struct]) -> msgspec.Struct:
    """Check limits and what was not cleaned."""
    try:
        return msgspec.convert(values, struct)
    except msgspec.ValidationError as error:
        found = _WHERE.fullmatch(str(error))
        what = str(error) if found is None else found["what"]
        path = "" if found is None else read_path(found["path"])
        named = f"`{path}`: " if path else ""
        raise InvalidInputError(f"{named}{_describe(what)}.", param=path or None) from error


def read_path(path: str) -> str:
    """Return msgspec's path to a value as a name with dots."""
    return re.sub(r"\[(\d+|\.\.\.)\]", r".\1", path).strip(".")


def _describe(message: str) -> str:
    """Write a message of msgspec without its quotes: what is expected, and what came."""
    return message.replace("`", "").replace("Expected", "expected", 1)


def _quote(value: Any) -> str:
    if isinstance(value, str):
        return repr(_show(value))
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if value is None:
        return "null"
    return "an object" if isinstance(value, dict) else "a list"


def _show(text: str) -> str:
    return text if len(text) <= SHOWN_CHARACTERS_MAX else text[:SHOWN_CHARACTERS_MAX] + "…"
