"""Prove of a conversion that nothing is dropped silently.

Each plain value of a request must be found in what it becomes, or change it, or be listed as lost,
or belong to what the table says is ignored.
"""

from __future__ import annotations

import fnmatch
import re
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from headgate.kit.errors import HeadgateError
from tests.fakes.schema_samples import Leaf, list_leaves, replace_leaf

Converted = tuple[Any, Mapping[str, str]]
"""What a request becomes, and its losses: words by place."""
_INDEX = re.compile(r"\[(\d+)\]")
_NUMBER = re.compile(r"(?<=\.)\d+(?=\.|$)")


class Outcome(NamedTuple):
    """Hold what became of one sample: `silent` are the places that nothing tells of. `refused` is
    the place that an error names, with `*` for numbers; empty for none."""

    silent: list[str]
    refused: str = ""


def check_request(
    convert: Callable[[Any], Converted], request: Any, ignored: Collection[str] = ()
) -> Outcome:
    """Convert a request and look for each of its values."""
    try:
        output, losses = convert(request)
    except HeadgateError as error:
        return Outcome([], generalize(_INDEX.sub(r".\1", error.param or "no place")))
    found = list(msgspec.json.encode(output).decode().split('"'))
    shown = "\n".join(found)
    silent = [
        leaf.place
        for leaf in list_leaves(request)
        if leaf.value is not None
        and not _is_told(leaf, shown, losses, ignored)
        and not _reacts(convert, request, leaf, (output, losses))
    ]
    return Outcome(silent)


def check_answer(convert: Callable[[Any], Any], answer: Any, told: Collection[str]) -> list[str]:
    """Convert an answer, and return the places of values that nothing tells of, with the types of
    elements for their numbers."""
    outcome = check_request(lambda each: (convert(each), {}), answer)
    places = [name_place(answer, place) for place in outcome.silent]
    return [place for place in places if not matches(place, told)]


def name_place(answer: Any, place: str) -> str:
    """Return a place with the types of elements for their numbers, `*` where they have none."""
    names: list[str] = []
    value: Any = answer
    for name in place.split("."):
        if isinstance(value, list):
            value = typing.cast("list[Any]", value)[int(name)]
            kind: Any = None
            if isinstance(value, dict):
                kind = typing.cast("dict[str, Any]", value).get("type")
            names.append(str(kind or "*"))
        else:
            value = typing.cast("dict[str, Any]", value)[name]
            names.append(name)
    return ".".join(names)


def generalize(place: str) -> str:
    """Return a place with `*` for its numbers."""
    return _NUMBER.sub("*", place)


def _is_told(leaf: Leaf, shown: str, losses: Mapping[str, str], ignored: Collection[str]) -> bool:
    for place, word in losses.items():
        if place == leaf.place or (word == "lost" and _covers(place, leaf.place)):
            return True
    if matches(leaf.place, ignored):
        return True
    return isinstance(leaf.value, str) and leaf.value.startswith("text-") and leaf.value in shown


def matches(place: str, patterns: Iterable[str]) -> bool:
    """Return whether a place is one of the patterns, or within it."""
    return any(
        fnmatch.fnmatchcase(place, each) or fnmatch.fnmatchcase(place, f"{each}.*")
        for each in patterns
    )


def _covers(outer: str, place: str) -> bool:
    return place.startswith(f"{outer}.")


def _reacts(
    convert: Callable[[Any], Converted], request: Any, leaf: Leaf, before: Converted
) -> bool:
    """Return whether another value at this place gives something else."""
    try:
        output, losses = convert(replace_leaf(request, leaf.place, _change(leaf.value)))
    except HeadgateError:
        return True
    return (output, dict(losses)) != (before[0], dict(before[1]))


def _change(value: Any) -> Any:
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | float):
        return value + type(value)(1)
    return f"{value}-changed" if isinstance(value, str) else "changed"
