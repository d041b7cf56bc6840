"""The tools of a response: which calls have a fee of their own, and by what name it is in prices.

The name of a fee is the type of the item in the answer (`web_search_call`). What needs a container
is charged by the container, whose size, where it is not the usual one, is part of the name
(`code_interpreter_call_4g`).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import cast

import msgspec

NO_FEE = frozenset(
    {
        "apply_patch_call",
        "computer_call",
        "custom_tool_call",
        "function_call",
        "local_shell_call",
        "mcp_call",
        "tool_search_call",
    }
)
"""Calls that cost their tokens and nothing else: the client runs them, or a server of its own."""
CONTAINER_FEES = {"code_interpreter": "code_interpreter_call", "shell": "shell_call"}
"""Tools that run in a container of the provider, and the fee for one container."""
USUAL_MEMORY = "1g"
NAME_CHARACTERS_MAX = 64
NAMES_MAX = 32
OTHER = "other_call"
"""Stands for every type of call past the first `NAMES_MAX` of one answer."""
CALLS_MAX = 10_000
"""So many calls of one type are told apart in an answer; further ones are not counted."""
_VERSION = re.compile(r"(_preview)?(_\d{4}_\d{2}_\d{2})?$")

ToolCalls = dict[str, set[str]]
"""By the name of the fee, what each charge is told apart by: an item's id, or its container's."""


class Item(msgspec.Struct):
    """An output item, as far as fees depend on it; of whatever types it came."""

    type: object = None
    id: object = None
    action: object = None
    container_id: object = None
    environment: object = None


def note_item(item: Item, index: object, calls: ToolCalls) -> None:
    """Count an item that may have a fee; one that is there already counts once."""
    name = _find_fee(item)
    if name is None:
        return
    if name not in calls and len(calls) >= NAMES_MAX:
        name = OTHER
    seen = calls.setdefault(name, set())
    if len(seen) < CALLS_MAX:
        seen.add(_identify(item, index) or f"#{len(seen)}")


def _find_fee(item: Item) -> str | None:
    """The fee of an item; None where its tokens are all that it costs.

    A web search action that is no search costs nothing. The client runs a shell that is not in a
    container. A type that is not known here may have a fee, so it is told.
    """
    kind = item.type
    if not isinstance(kind, str) or not kind.endswith("_call") or kind in NO_FEE:
        return None
    if kind == "web_search_call":
        return kind if _member(item.action, "type") in (None, "search") else None
    if kind == "shell_call":
        place = _member(item.environment, "type")
        return kind if isinstance(place, str) and place.startswith("container") else None
    return kind[:NAME_CHARACTERS_MAX]


def _identify(item: Item, index: object) -> str | None:
    container = item.container_id or _member(item.environment, "container_id")
    for known in (container, item.id):
        if isinstance(known, str) and known:
            return known
    return f"@{index}" if isinstance(index, int) else None


def count_calls(announced: ToolCalls, final: ToolCalls, tools: object) -> dict[str, int]:
    """How many charges there are of each fee: of the items that came one by one and of those that
    the end repeats, whichever tells more. `tools` are those of the response."""
    counts: dict[str, int] = {}
    for name in {**final, **announced}:
        count = max(len(announced.get(name, ())), len(final.get(name, ())))
        counts[_name_with_memory(name, tools)] = count
    return counts


def list_fees(tools: object) -> set[str]:
    """The fees that the tools of a request may lead to; a tool that is not known here has one by
    the name of the items that the known ones have."""
    fees: set[str] = set()
    for kind, tool in _read_tools(tools):
        name = CONTAINER_FEES.get(kind)
        if name is None:
            fees.add(_VERSION.sub("", kind) + "_call")
        elif kind != "shell" or _find_container(tool) is not None:
            fees.add(_name_of_size(name, tool))
    return {name for name in fees if name not in NO_FEE}


def is_of_container(name: str) -> bool:
    """Whether a fee is for a container, of which a response has one, and not for each call."""
    return name.startswith(tuple(CONTAINER_FEES.values()))


def _name_with_memory(name: str, tools: object) -> str:
    for kind, tool in _read_tools(tools):
        if CONTAINER_FEES.get(kind) == name:
            return _name_of_size(name, tool)
    return name


def _name_of_size(name: str, tool: Mapping[str, object]) -> str:
    memory = _member(_find_container(tool), "memory_limit")
    if not isinstance(memory, str) or memory == USUAL_MEMORY:
        return name
    return f"{name}_{memory[:8]}"


def _find_container(tool: Mapping[str, object]) -> object:
    environment = tool.get("environment")
    place = _member(environment, "type")
    if isinstance(place, str) and place.startswith("container"):
        return environment
    return tool.get("container")


def _read_tools(tools: object) -> Iterable[tuple[str, Mapping[str, object]]]:
    for tool in cast("list[object]", tools) if isinstance(tools, list) else ():
        kind = _member(tool, "type")
        if isinstance(kind, str) and len(kind) <= NAME_CHARACTERS_MAX:
            yield kind, cast("dict[str, object]", tool)


def _member(value: object, field: str) -> object:
    return cast("dict[str, object]", value).get(field) if isinstance(value, dict) else None
