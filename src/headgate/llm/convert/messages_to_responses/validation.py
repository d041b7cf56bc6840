"""Check the shape of a Messages request, and name the place of a fault as Anthropic does."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn, cast

from headgate.kit.errors import HeadgateError, Kind

Fields = Mapping[str, Any]
REASON_CHARACTERS_MAX = 1_000
IDENTIFIER = re.compile(r"[a-zA-Z0-9_-]+")


class InvalidMessagesRequestError(HeadgateError):
    """A field of a Messages request is missing, or has a value that Anthropic does not accept.

    Correct the field that the message names.
    """

    kind = Kind.INVALID
    code = "invalid_request_error"


def fail(place: str, reason: str) -> NoReturn:
    """Raise `InvalidMessagesRequestError` for a place (`messages.0.content.1.text`)."""
    if len(reason) > REASON_CHARACTERS_MAX:
        reason = f"{reason[:REASON_CHARACTERS_MAX]}..."
    raise InvalidMessagesRequestError(f"{place}: {reason}", param=place, should_retry=False)


def join(place: str, name: str | int) -> str:
    return f"{place}.{name}" if place else str(name)


def read(fields: Fields, name: str, place: str) -> Any:
    """Return a field that must be there."""
    value = fields.get(name)
    if value is None:
        fail(join(place, name), "Field required")
    return value


def read_text(fields: Fields, name: str, place: str, *, blank: bool = True) -> str:
    value = read(fields, name, place)
    if not isinstance(value, str):
        fail(join(place, name), "Input should be a valid string")
    if not blank and not value:
        fail(join(place, name), "String should have at least 1 character")
    return value


def read_object(fields: Fields, name: str, place: str) -> Fields:
    return check_object(read(fields, name, place), join(place, name))


def check_object(value: Any, place: str) -> Fields:
    if not isinstance(value, dict):
        fail(place, "Input should be an object")
    return cast("Fields", value)


def check_list(value: Any, place: str) -> Sequence[Any]:
    if not isinstance(value, list):
        fail(place, "Input should be a valid list")
    return cast("Sequence[Any]", value)


def read_identifier(fields: Fields, name: str, place: str, characters_max: int) -> str:
    """Return a name or an id, which has letters, digits, `_` and `-` only."""
    value = read_text(fields, name, place, blank=False)
    if len(value) > characters_max:
        fail(join(place, name), f"String should have at most {characters_max} characters")
    if IDENTIFIER.fullmatch(value) is None:
        fail(join(place, name), f"String should match pattern '^{IDENTIFIER.pattern}$'")
    return value


def read_optional(fields: Fields, name: str, place: str, kind: type | tuple[type, ...]) -> Any:
    """Return a field of a type, None where it is missing or null."""
    value = fields.get(name)
    if value is None:
        return None
    # A bool is an int for Python, and none for JSON.
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        fail(join(place, name), f"Input should be a valid {_NAMES[kind]}")
    return value


def read_settings(fields: Fields, name: str, place: str = "") -> Fields:
    """Return an object that may be missing; empty then."""
    value = fields.get(name)
    return {} if value is None else check_object(value, join(place, name))


def read_choice(fields: Fields, name: str, place: str, choices: Collection[str]) -> str:
    value = read_text(fields, name, place)
    if value not in choices:
        listed = ", ".join(f"'{each}'" for each in choices)
        fail(
            join(place, name),
            f"Input tag '{value}' found using 'type' does not match any of the expected tags: "
            f"{listed}"
            if name == "type"
            else f"Input should be one of {listed}",
        )
    return value


NUMBER = (int, float)
_NAMES: dict[Any, str] = {
    str: "string",
    int: "integer",
    bool: "boolean",
    NUMBER: "number",
    dict: "object",
    list: "list",
}
