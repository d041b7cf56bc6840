"""Check the shape of a chat completion's request, and name the place of a fault as OpenAI does."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, NoReturn, cast

from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.request import InvalidRequestError, InvalidTypeError

Fields = Mapping[str, Any]
_NAMES: tuple[tuple[type, str], ...] = (
    (dict, "an object"),
    (list, "an array"),
    (str, "a string"),
    (bool, "a boolean"),
    (int, "an integer"),
    (float, "a number"),
)


class UnsupportedOnResponsesError(HeadgateError):
    """The request asks for something that the API of its model has no equal for, and without which
    it would be another request.

    Leave out what the message names, or choose a model that answers at the called endpoint.
    """

    kind = Kind.INVALID
    code = "unsupported_on_responses"


def refuse(place: str, reason: str) -> NoReturn:
    raise UnsupportedOnResponsesError(f"'{place}': {reason}", param=place, should_retry=False)


def fail(place: str, reason: str) -> NoReturn:
    """Raise `InvalidRequestError` for a place (`messages[0].content`)."""
    raise InvalidRequestError(f"Invalid '{place}': {reason}", param=place, should_retry=False)


def fail_type(place: str, expected: str, value: Any) -> NoReturn:
    got = next((name for kind, name in _NAMES if isinstance(value, kind)), "null")
    raise InvalidTypeError(
        f"Invalid type for '{place}': expected {expected}, but got {got} instead.",
        param=place,
        should_retry=False,
    )


def join(place: str, name: str) -> str:
    return f"{place}.{name}" if place else name


def read(fields: Fields, name: str, place: str) -> Any:
    """Return a field that must be there."""
    if fields.get(name) is None:
        place = join(place, name)
        raise InvalidRequestError(
            f"Missing required parameter: '{place}'.", param=place, should_retry=False
        )
    return fields[name]


def read_text(fields: Fields, name: str, place: str) -> str:
    value = read(fields, name, place)
    if not isinstance(value, str):
        fail_type(join(place, name), "a string", value)
    return value


def read_object(fields: Fields, name: str, place: str) -> Fields:
    return check_object(read(fields, name, place), join(place, name))


def read_settings(fields: Fields, name: str, place: str = "") -> Fields:
    """Return an object that may be missing; empty then."""
    value = fields.get(name)
    return {} if value is None else check_object(value, join(place, name))


def read_list(fields: Fields, name: str, place: str = "") -> Sequence[Any]:
    """Return a list that may be missing; empty then."""
    value = fields.get(name)
    return [] if value is None else check_list(value, join(place, name))


def read_choice(fields: Fields, name: str, place: str, choices: Collection[str]) -> str:
    value = read_text(fields, name, place)
    if value not in choices:
        place = join(place, name)
        listed = ", ".join(f"'{each}'" for each in choices)
        raise InvalidRequestError(
            f"Invalid value for '{place}': '{value[:64]}'. Supported values are: {listed}.",
            param=place,
            should_retry=False,
        )
    return value


def check_object(value: Any, place: str) -> Fields:
    if not isinstance(value, dict):
        fail_type(place, "an object", value)
    return cast("Fields", value)


def check_list(value: Any, place: str) -> Sequence[Any]:
    if not isinstance(value, list):
        fail_type(place, "an array", value)
    return cast("Sequence[Any]", value)
