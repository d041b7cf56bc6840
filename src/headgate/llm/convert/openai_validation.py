"""Check the shape of a request to OpenAI's API, and name the place of a fault as OpenAI does.

Places are written with dots (`input.0.content.1`), as in lists of losses; errors name them with
brackets (`input[0].content[1]`), as OpenAI's own do.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn, cast

from headgate.llm.request import InvalidRequestError, InvalidTypeError

Fields = Mapping[str, Any]
SHOWN_CHARACTERS_MAX = 100
_NUMBER = re.compile(r"\.(\d+)(?=\.|$)")


class MissingParameterError(InvalidRequestError):
    """The request lacks a field that the conversion to another API needs.

    Add the field that the message names.
    """

    code = "missing_required_parameter"


class InvalidValueError(InvalidRequestError):
    """A field of the request has a value that the API does not define.

    Send one of the values that the message lists.
    """

    code = "invalid_value"


def to_param(place: str) -> str:
    """Return a place as OpenAI writes it: `input.0.content.1` is `input[0].content[1]`."""
    return _NUMBER.sub(r"[\1]", place)


def join(place: str, name: str | int) -> str:
    return f"{place}.{name}" if place else str(name)


def fail_value(place: str, value: str, choices: Collection[str]) -> NoReturn:
    """Raise `InvalidValueError` for a value that is none of the choices."""
    listed = ", ".join(f"'{each}'" for each in choices)
    raise InvalidValueError(
        f"Invalid value: '{value[:SHOWN_CHARACTERS_MAX]}'. Supported values are: {listed}.",
        param=to_param(place),
        should_retry=False,
    )


def fail(place: str, message: str) -> NoReturn:
    """Raise `InvalidRequestError` with a sentence about a place."""
    raise InvalidRequestError(message, param=to_param(place), should_retry=False)


def read(fields: Fields, name: str, place: str) -> Any:
    """Return a field that must be there."""
    value = fields.get(name)
    if value is None:
        param = to_param(join(place, name))
        raise MissingParameterError(
            f"Missing required parameter: '{param}'.", param=param, should_retry=False
        )
    return value


def read_text(fields: Fields, name: str, place: str) -> str:
    return check_type(read(fields, name, place), str, join(place, name))


def read_object(fields: Fields, name: str, place: str) -> Fields:
    return check_type(read(fields, name, place), dict, join(place, name))


def read_list(fields: Fields, name: str, place: str) -> Sequence[Any]:
    return check_type(read(fields, name, place), list, join(place, name))


def read_choice(fields: Fields, name: str, place: str, choices: Collection[str]) -> str:
    value = read_text(fields, name, place)
    if value not in choices:
        fail_value(join(place, name), value, choices)
    return value


def read_optional(fields: Fields, name: str, place: str, kind: type) -> Any:
    """Return a field of a type, None where it is missing or null."""
    value = fields.get(name)
    return None if value is None else check_type(value, kind, join(place, name))


def read_settings(fields: Fields, name: str, place: str = "") -> Fields:
    """Return an object that may be missing; empty then."""
    value = fields.get(name)
    return {} if value is None else check_object(value, join(place, name))


def read_elements(fields: Fields, name: str, place: str = "") -> Sequence[Any]:
    """Return an array that may be missing; empty then."""
    value = fields.get(name)
    return () if value is None else check_type(value, list, join(place, name))


def check_object(value: Any, place: str) -> Fields:
    return cast("Fields", check_type(value, dict, place))


def check_type(value: Any, kind: type, place: str) -> Any:
    if isinstance(value, kind) and (kind is bool or not isinstance(value, bool)):
        return value
    param = to_param(place)
    raise InvalidTypeError(
        f"Invalid type for '{param}': expected {_NAMES[kind]}, but got {_name_type(value)} "
        "instead.",
        param=param,
        should_retry=False,
    )


_NAMES: dict[type, str] = {
    str: "a string",
    bool: "a boolean",
    int: "an integer",
    dict: "an object",
    list: "an array",
}


def _name_type(value: Any) -> str:
    if value is None:
        return "null"
    return next((name for kind, name in _NAMES.items() if isinstance(value, kind)), "a number")
