"""Reads query and body of a request into the declared types, or says which field is wrong."""

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


def read_query(request: Request, wanted: type[StructT]) -> StructT:
    """The query's parameters. Raises `InvalidFieldError`."""
    given: dict[str, Any] = {}
    for name, value in request.query_params.multi_items():
        if name in given:
            raise InvalidFieldError("This parameter is there twice.", ("query", name), "duplicate")
        if name in list_times(wanted) and NUMBER.fullmatch(value):
            raise InvalidFieldError("A time is written as RFC 3339 has it.", ("query", name))
        given[name] = value
    try:
        return _place_times(msgspec.convert(given, wanted, strict=False), "query")
    except msgspec.ValidationError as error:
        raise _refuse(error, "query") from error


def read_body(request: Request, body: bytes, wanted: type[StructT]) -> StructT:
    """The JSON body.

    Raises `MalformedJsonError`, `UnsupportedMediaTypeError` and `InvalidFieldError`.
    """
    if wanted is Empty and not body:
        return wanted()
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", "") and not kind.endswith("+json"):
        raise UnsupportedMediaTypeError(f"This address reads application/json, not {kind[:64]!r}.")
    if not body:
        raise InvalidFieldError("A JSON object is wanted here.", ("body",), "missing")
    try:
        json_limits.check(body, JSON_LIMITS)
        return _place_times(msgspec.json.decode(body, type=wanted), "body")
    except msgspec.ValidationError as error:
        raise _refuse(error, "body", _find_key(error, body, wanted)) from error
    except JsonLimitError as error:
        raise MalformedJsonError(f"The body cannot be read: {error.message}.") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise MalformedJsonError(f"The body is not JSON: {error}.") from error


@functools.cache
def list_times(wanted: type[msgspec.Struct]) -> frozenset[str]:
    """The fields that are times: these are texts here, where msgspec would take a number, too."""
    hints = typing.get_type_hints(wanted)
    return frozenset(name for name, hint in hints.items() if _is_time(hint))


def _place_times(read: StructT, place: str) -> StructT:
    """Read times without an offset as UTC. Raises `InvalidFieldError` for one of no year in UTC."""
    for name in list_times(type(read)):
        at = getattr(read, name)
        if not isinstance(at, datetime.datetime):
            continue
        if at.tzinfo is None:
            at = at.replace(tzinfo=datetime.UTC)
            msgspec.structs.force_setattr(read, name, at)
        try:
            to_datetime(at.timestamp())
        except (ValueError, OverflowError) as error:
            message = "In UTC, this time is outside of the years 1 to 9999."
            raise InvalidFieldError(message, (place, name)) from error
    return read


def _find_key(
    error: msgspec.ValidationError, body: bytes, wanted: type[msgspec.Struct]
) -> str | None:
    """The key at fault of the map that an error speaks of; None where it speaks of none.

    Msgspec says only `[...]`. The map is halved until one key is left that fails alike.
    """
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
        keys = half if _fails_alike(value, wanted, message) else keys[len(half) :]
    return keys[0]


def _fails_alike(value: Any, wanted: type[msgspec.Struct], message: str) -> bool:
    try:
        msgspec.convert(value, wanted)
    except msgspec.ValidationError as error:
        return str(error) == message
    return False


def _is_time(hint: object) -> bool:
    return hint is datetime.datetime or any(map(_is_time, typing.get_args(hint)))


async def take_body(request: Request) -> bytes:
    """The bytes of the body. Raises `BodyTooLargeError`."""
    announced = int(request.headers.get("content-length") or 0)
    if announced > BODY_BYTES_MAX:
        # Before the first read: a client that waits to be asked for its body is not asked.
        raise BodyTooLargeError(f"A body has at most {BODY_BYTES_MAX} bytes here.")
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > BODY_BYTES_MAX:
            raise BodyTooLargeError(f"A body has at most {BODY_BYTES_MAX} bytes here.")
    return body


def _refuse(
    error: msgspec.ValidationError, place: str, key: str | None = None
) -> InvalidFieldError:
    """Msgspec's sentence, with its path as a list of names; `key` is that of the map in it."""
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
    return InvalidFieldError(f"{message}.", tuple(path), _name_fault(message))


def _name_fault(message: str) -> str:
    if "missing required" in message:
        return "missing"
    return "unknown_field" if "unknown field" in message else "invalid"
