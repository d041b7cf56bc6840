"""Read the fields of answers, whose types a provider may get wrong."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

Fields = Mapping[str, Any]


class UnreadableResponseError(Exception):
    """The answer is none of its API, or one that failed."""


def read_object(fields: Fields, name: str) -> Fields:
    """Return an object of an answer; empty for anything else."""
    value = fields.get(name)
    return cast("Fields", value) if isinstance(value, dict) else {}


def read_count(fields: Fields, name: str) -> int:
    """Return a whole number of an answer that is not negative; 0 for anything else."""
    value = fields.get(name)
    return value if isinstance(value, int) and not isinstance(value, bool) and value > 0 else 0


def list_objects(value: Any) -> list[Fields]:
    """Return the objects of a list; empty for anything else."""
    if not isinstance(value, list):
        return []
    return [cast("Fields", each) for each in cast("list[Any]", value) if isinstance(each, dict)]
