"""Parses the query and the body of a request into the declared types, and names the field that
is wrong."""

from __future__ import annotations

import datetime
import functools
import re
import typing
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from headgate.api.errors import (
    BodyTooLargeError,
    InvalidFieldError,
    MalformedJsonError,
    UnsupportedMediaTypeError,
)
from headgate.api.schemas.fields import Empty, to_datetime
from headgate.kit import json_limits
from headgate.kit.json_limits import JsonLimitError, JsonLimits

BODY_BYTES_MAX = 512 * 1024
JSON_LIMITS = JsonLimits(depth_max=32, keys_max=10_000, items_max=50_000)

StructT = TypeVar("StructT", bound=msgspec.Struct)

NUMBER = re.compile(r"\s*[-+]?[0-9.]+(?:[eE][-+]?[0-9]+)?\s*")
_WHERE = re.compile(r"(?P<what>.*) - at (?:`key` in )?`(?:key in )?\$(?P<path>.*)`", re.DOTALL)
_STEP = re.compile(r"\.([^.\[\]]+)|\[(\d+|\.\.\.)\]")
_FIELD = re.compile(r"(?:unknown|required) field `([^`]+)`")


def parse_query(request: Request, struct: type[StructT]) -> StructT:
    """Return the parameters of the query. Raise `InvalidFieldError`."""
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise InvalidFieldError("This parameter is given twice.", ("query", name), "duplicate")
        if name in list_time_fields(struct) and NUMBER.fullmatch(value):
            raise InvalidFieldError("Write times in RFC 3339 format.", ("query", name))
        given[name] = value
    try:
        return _normalize_times(msgspec.convert(given, struct, strict=False), "query")
    except msgspec.ValidationError as error:
        raise _build_field_error(error, "query") from error


def parse_body(request: Request, body: bytes, struct: type[StructT]) -> StructT:
    """Return the JSON body. Raise `MalformedJsonError`, `UnsupportedMediaTypeError` and
    `InvalidFieldError`."""
    if struct is Empty and not body:
        return struct()
    check_json_type(request)
    if not body:
        raise InvalidFieldError(
            "The request needs a JSON object as its body.", ("body",), "missing"
        )
    try:
        json_limits.check(body, JSON_LIMITS)
        return _normalize_times(msgspec.json.decode(body, type=struct), "body")
    except msgspec.ValidationError as error:
        raise _build_field_error(error, "body", _find_invalid_key(error, body, struct)) from error
    except JsonLimitError as error:
        raise MalformedJsonError(f"The body cannot be read: {error.message}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedJsonError(f"The body is not JSON: {error}.") from error


def parse_object(request: Request, body: bytes) -> dict[str, Any]:
    """Return a body that is any JSON object; an empty one is an empty object. Raise
    `MalformedJsonError`, `UnsupportedMediaTypeError` and `InvalidFieldError`."""
    if not body:
        return {}
    check_json_type(request)
    try:
        json_limits.check(body, JSON_LIMITS)
        return msgspec.json.decode(body, type=dict[str, Any])
    except msgspec.ValidationError as error:
        raise InvalidFieldError("The body is a JSON object.", ("body",)) from error
    except JsonLimitError as error:
        raise MalformedJsonError(f"The body cannot be read: {error.message}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedJsonError(f"The body is not JSON: {error}.") from error


def check_json_type(request: Request) -> None:
    """Raise `UnsupportedMediaTypeError` for a body that says it is something else than JSON."""
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "") and not kind.endswith("+json"):
        raise UnsupportedMediaTypeError(f"This address reads application/json, not {kind[:64]!r}.")


@functools.cache
def list_time_fields(struct: type[msgspec.Struct]) -> frozenset[str]:
    """Return the names of the fields that are times. They must be strings here; msgspec would
    accept numbers, too."""
    hints = typing.get_type_hints(struct)
    return frozenset(name for name, hint in hints.items() if _is_time(hint))


def _normalize_times(struct_value: StructT, place: str) -> StructT:
    """Set UTC for times without an offset. Raise `InvalidFieldError` for years outside 1 to
    9999."""
    for name in list_time_fields(type(struct_value)):
        at = getattr(struct_value, name)
        if not isinstance(at, datetime.datetime):
            continue
        if at.tzinfo is None:
            at = at.replace(tzinfo=datetime.UTC)
            msgspec.structs.force_setattr(struct_value, name, at)
        try:
            to_datetime(at.timestamp())
        except (ValueError, OverflowError) as error:
            message = "In UTC, this time is outside the years 1 to 9999."
            raise InvalidFieldError(message, (place, name)) from error
    return struct_value


def _find_invalid_key(
    error: msgspec.ValidationError, body: bytes, struct: type[msgspec.Struct]
) -> str | None:
    """Return the key of a map that a validation error is about; None if it is about no map. Msgspec
    names it only as `[...]`, so the map is halved until one key with this error is left."""
    message = str(error)
    found = _WHERE.fullmatch(message)
    if found is None or not ("[...]" in found["path"] or "at `key` in " in message):
        return None
    path = [index or name for name, index in _STEP.findall(found["path"].partition("[...]")[0])]
    value = msgspec.json.decode(body)
    parent: Any = {"": value}
    step: Any = ""
    for each in path:
        parent, step = parent[step], int(each) if each.isdigit() else each
    entries: dict[str, Any] = parent[step]
    keys = list(entries)
    while len(keys) > 1:
        half = keys[: len(keys) // 2]
        parent[step] = {key: entries[key] for key in half}
        keys = half if _fails_with(value, struct, message) else keys[len(half) :]
    return keys[0]


def _fails_with(value: Any, struct: type[msgspec.Struct], message: str) -> bool:
    try:
        msgspec.convert(value, struct)
    except msgspec.ValidationError as error:
        return str(error) == message
    return False


def _is_time(hint: object) -> bool:
    return hint is datetime.datetime or any(map(_is_time, typing.get_args(hint)))


async def receive_body(request: Request, bytes_max: int = BODY_BYTES_MAX) -> bytes:
    """Return the bytes of the body. Raise `BodyTooLargeError`."""
    announced = int(request.headers.get("content-length") or 0)
    if announced > bytes_max:
        # Before the first read: a client that waits to be asked for its body is not asked.
        raise BodyTooLargeError(f"The body is larger than {bytes_max} bytes.")
    body = bytearray()
    async for piece in request.stream():
        body += piece
        if len(body) > bytes_max:
            raise BodyTooLargeError(f"The body is larger than {bytes_max} bytes.")
    return bytes(body)


def _build_field_error(
    error: msgspec.ValidationError, place: str, key: str | None = None
) -> InvalidFieldError:
    """Turn msgspec's path into a list of names. `key` is the key of the map in it."""
    message, loc = str(error), [place]
    found = _WHERE.fullmatch(message)
    path: list[str | int] = [*loc]
    if found is not None:
        message = found["what"]
        for name, index in _STEP.findall(found["path"]):
            path.append(int(index) if index.isdigit() else name or index)
        if key is not None:
            path[path.index("...") if "..." in path else len(path) :] = [key]
    field = _FIELD.search(message)
    if field is not None:
        path.append(field[1])
    return InvalidFieldError(f"{message}.", tuple(path), _find_code(message))


def _find_code(message: str) -> str:
    if "missing required" in message:
        return "missing"
    return "unknown_field" if "unknown field" in message else "invalid"
