"""Find the tool calls of a response that have a fee, and its name in the price list.

The name of a fee is the type of the item in the response (`web_search_call`). Tools that need a
container are charged by container; its size is part of the name unless it is the usual one
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
"""Calls that cost only their tokens: the client, or a server of its own, runs them."""
CONTAINER_FEES = {"code_interpreter": "code_interpreter_call", "shell": "shell_call"}
"""Tools that run in a container of the provider, and the name of the fee for one container."""
USUAL_MEMORY = "1g"
NAME_CHARACTERS_MAX = 64
NAMES_MAX = 32
OTHER = "other_call"
"""The name for all types of calls after the first `NAMES_MAX` of one response."""
CALLS_MAX = 10_000
"""How many calls of one type are counted in one response."""
_VERSION = re.compile(r"(_preview)?(_\d{4}_\d{2}_\d{2})?$")

ToolCalls = dict[str, set[str]]
"""The ids of the charged items, or of their containers, by name of the fee."""


class Item(msgspec.Struct):
    """Hold the fields of an output item on which fees depend, of whatever types they came."""

    type: object = None
    id: object = None
    action: object = None
    container_id: object = None
    environment: object = None


def note_item(item: Item, index: object, calls: ToolCalls) -> None:
    """Count an item that may have a fee; the same item counts once."""
    name = _find_fee(item)
    if name is None:
        return
    if name not in calls and len(calls) >= NAMES_MAX:
        name = OTHER
    seen = calls.setdefault(name, set())
    if len(seen) < CALLS_MAX:
        seen.add(_identify(item, index) or f"#{len(seen)}")


def _find_fee(item: Item) -> str | None:
    """Return the fee of an item; None where its tokens are all that it costs.

    A web search action other than a search is free. A shell outside a container is run by the
    client. An unknown type may have a fee, so it is reported.
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
    """Return the number of charges by fee.

    Of the items that came one by one and those that the final event repeats, the larger number
    counts. `tools` are those of the response.
    """
    counts: dict[str, int] = {}
    for name in {**final, **announced}:
        count = max(len(announced.get(name, ())), len(final.get(name, ())))
        counts[_name_with_memory(name, tools)] = count
    return counts


def list_fees(tools: object) -> set[str]:
    """Return the fees that the tools of a request may lead to. An unknown tool gets the name that
    the items of known ones would have."""
    fees: set[str] = set()
    for kind, tool in _read_tools(tools):
        name = CONTAINER_FEES.get(kind)
        if name is None:
            fees.add(_VERSION.sub("", kind) + "_call")
        elif kind != "shell" or _find_container(tool) is not None:
            fees.add(_name_of_size(name, tool))
    return {name for name in fees if name not in NO_FEE}


def is_of_container(name: str) -> bool:
    """Return whether a fee is for the one container of a response, not for each call."""
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
