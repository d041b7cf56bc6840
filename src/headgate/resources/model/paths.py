"""Read variables by paths such as `request.messages[0].content` or `metadata['team']`, and live
ones by calls such as `errorRate(5)`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, TypeGuard

import msgspec

from headgate.kit.errors import HeadgateError, Kind

STEPS_MAX = 32

Step = str | int

_NAME = re.compile(r"[A-Za-z_$][A-Za-z0-9_$]*")
_STEP = re.compile(
    r"""(?:\?\.)?\[\s*(?:(?P<index>-?\d{1,6})|'(?P<single>[^']*)'|"(?P<double>[^"]*)")\s*\]"""
    r"|(?:\?\.|\.)(?P<name>[A-Za-z_$][A-Za-z0-9_$]*)"
)


_CALL = re.compile(r"\(?\s*(?:await\s+)?(errorRate|capacityUsage)\s*\(([^()]*)\)(\s*\))?")
_ARGUMENT = re.compile(r"""\s*(?:(-?\d{1,6})|'([^'\\]*)'|"([^"\\]*)")\s*""")


class InvalidRoutingError(HeadgateError):
    """A routing rule cannot be read: an unknown variable, a malformed expression or value.

    Correct the rule at the place that the message names.
    """

    kind = Kind.INVALID
    code = "invalid_routing"


class Missing:
    """Stand for a variable that the call does not have."""

    def __repr__(self) -> str:
        return "(missing)"


MISSING = Missing()


def parse_path(text: str) -> tuple[Step, ...] | None:
    """Return the steps of a path, the name of the variable first; None for what is no path."""
    text = text.strip()
    found = _NAME.match(text)
    if found is None:
        return None
    steps: list[Step] = [found[0]]
    position = found.end()
    while position < len(text):
        found = _STEP.match(text, position)
        if found is None or len(steps) == STEPS_MAX:
            return None
        steps.append(_read_step(found))
        position = found.end()
    return tuple(steps)


class LiveCall(msgspec.Struct, frozen=True):
    """Hold a call of a live function, and the steps into what it returns."""

    function: str
    arguments: tuple[int | str, ...]
    steps: tuple[Step, ...]


def parse_live_call(text: str) -> LiveCall | None:
    """Return the call of `capacityUsage("minute").remainingTokens` and the like; None for anything
    else."""
    text = text.strip()
    found = _CALL.match(text)
    if found is None or text.startswith("(") is (found[3] is None):
        return None
    path = parse_path("_" + text[found.end() :])
    if path is None:
        return None
    arguments: list[int | str] = []
    for each in found[2].split(",") if found[2].strip() else ():
        argument = _ARGUMENT.fullmatch(each)
        if argument is None:
            return None
        number, single, double = argument.groups()
        arguments.append(int(number) if number is not None else single or double or "")
    return LiveCall(found[1], tuple(arguments), path[1:])


def _read_step(found: re.Match[str]) -> Step:
    if found["index"] is not None:
        return int(found["index"])
    for name in ("single", "double", "name"):
        if found[name] is not None:
            return found[name]
    raise AssertionError("a step has one of its forms")


def is_object(value: Any) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def is_list(value: Any) -> TypeGuard[list[Any]]:
    return isinstance(value, list)


def walk(value: Any, steps: Sequence[Step]) -> Any:
    """Return what the steps lead to; `MISSING` where there is no such member.

    `length` of a text or a list is its length, and a negative index counts from the end.
    """
    for step in steps:
        value = _take(value, step)
        if value is MISSING:
            return MISSING
    return value


def _take(value: Any, step: Step) -> Any:
    if is_object(value):
        return value.get(str(step), MISSING)
    if step == "length" and (isinstance(value, str) or is_list(value)):
        return len(value)
    if is_list(value) and isinstance(step, int):
        return value[step] if -len(value) <= step < len(value) else MISSING
    return MISSING
