"""Read the fields of answers, whose types a provider may get wrong."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any, cast

import msgspec

from headgate.llm.answers import DECODE_ERRORS

Fields = Mapping[str, Any]
FAILURES = ("failed", "cancelled")
"""The states of a response that has no answer."""


class UnreadableResponseError(Exception):
    """The answer is none of its API, or one that failed."""


def decode_answer(data: bytes) -> Any:
    """Return an answer, or an event of one. Raise `UnreadableResponseError` for what is not JSON.

    Some providers send half of a surrogate pair, or NaN. Their own clients read that, so it is no
    reason to lose the answer: the half becomes U+FFFD, the number null.
    """
    try:
        return msgspec.json.decode(data)
    except DECODE_ERRORS:
        pass
    try:
        return _clean(json.loads(data))
    except (ValueError, RecursionError):
        message = "The provider answered with something that is not JSON."
        raise UnreadableResponseError(message) from None


def _clean(value: Any) -> Any:
    """Return a value without what cannot be written as JSON in UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_clean(each) for each in cast("list[Any]", value)]
    if isinstance(value, dict):
        fields = cast("dict[str, Any]", value)
        return {_clean(name): _clean(each) for name, each in fields.items()}
    return None if isinstance(value, float) and not math.isfinite(value) else value


def read_response(answer: Any) -> Fields:
    """Return a whole answer of Responses that has an output. Raise `UnreadableResponseError`."""
    response = as_object(answer)
    if not isinstance(response.get("output"), list):
        raise UnreadableResponseError("The provider's answer is no response of the Responses API.")
    if response.get("status") in FAILURES:
        message = read_object(response, "error").get("message")
        raise UnreadableResponseError(str(message or "The provider's response has failed."))
    return response


def as_object(value: Any) -> Fields:
    """Return an object as it is; an empty one for anything else."""
    return cast("Fields", value) if isinstance(value, dict) else {}


def read_object(fields: Fields, name: str) -> Fields:
    """Return an object of an answer; empty for anything else."""
    value = fields.get(name)
    return cast("Fields", value) if isinstance(value, dict) else {}


def read_text(fields: Fields, name: str) -> str:
    """Return a text of an answer; empty for anything else."""
    value = fields.get(name)
    return value if isinstance(value, str) else ""


def read_count(fields: Fields, name: str) -> int:
    """Return a whole number of an answer that is not negative; 0 for anything else."""
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def list_objects(value: Any) -> list[Fields]:
    """Return the objects of a list; empty for anything else."""
    if not isinstance(value, list):
        return []
    return [cast("Fields", each) for each in cast("list[Any]", value) if isinstance(each, dict)]
