"""Convert the tools of a Messages request, and the choice among them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from typing import Any

from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.convert.losses import Losses
from headgate.llm.convert.messages_to_responses.validation import (
    Fields,
    check_list,
    check_object,
    fail,
    join,
    read_choice,
    read_identifier,
    read_object,
    read_optional,
    read_settings,
    read_text,
)

NAME_CHARACTERS_MAX = 64
"""The longest name of a function that OpenAI takes. Anthropic takes 128."""
ORIGINAL_CHARACTERS_MAX = 128
HASH_CHARACTERS = 8
HOSTED = {"web_search": "web_search", "code_execution": "code_interpreter"}
"""Anthropic's names of tools that OpenAI runs as well, with OpenAI's."""
CHOICES = ("auto", "any", "tool", "none")
TOOL_OPTIONS = (
    "input_examples",
    "defer_loading",
    "allowed_callers",
    "eager_input_streaming",
    "response_inclusion",
)


class UnsupportedServerToolError(HeadgateError):
    """The request uses a tool that Anthropic runs itself, and OpenAI has none like it.

    Leave the tool out, or give the model a custom tool instead.
    """

    kind = Kind.INVALID
    code = "anthropic_server_tool_unsupported_on_openai_responses"


class ToolNames:
    """Shorten the names of functions that are too long for OpenAI, and find the original ones."""

    def __init__(self) -> None:
        self._originals: dict[str, str] = {}

    def shorten(self, name: str) -> str:
        if len(name) <= NAME_CHARACTERS_MAX:
            return name
        digest = hashlib.sha256(name.encode()).hexdigest()[:HASH_CHARACTERS]
        short = f"{name[: NAME_CHARACTERS_MAX - HASH_CHARACTERS - 1]}_{digest}"
        self._originals[short] = name
        return short

    @property
    def originals(self) -> Mapping[str, str]:
        """Return the original names by their short forms."""
        return self._originals


def convert_tools(fields: Fields, names: ToolNames, losses: Losses) -> dict[str, Any]:
    """Return `tools`, `tool_choice`, `parallel_tool_calls` and `max_tool_calls` of Responses."""
    tools = fields.get("tools")
    if not tools:
        check_no_choice(fields)
    if tools is None:
        return {}
    converted: dict[str, Any] = {}
    uses_max: int | None = None
    listed: list[dict[str, Any]] = []
    seen: set[str] = set()
    for index, each in enumerate(check_list(tools, "tools")):
        place = f"tools.{index}"
        tool = check_object(each, place)
        check_name(tool, seen)
        kind = read_optional(tool, "type", place, str) or "custom"
        if kind == "custom":
            listed.append(_convert_function(tool, place, names, losses))
        elif kind.startswith("web_search"):
            listed.append(_convert_web_search(tool, place, losses))
            uses_max = read_optional(tool, "max_uses", place, int)
        elif kind.startswith("code_execution"):
            _report_options(tool, place, ("type", "name"), losses)
            listed.append({"type": "code_interpreter", "container": {"type": "auto"}})
        else:
            raise UnsupportedServerToolError(
                f"{place}.type: the server tool '{kind}' has no counterpart in OpenAI's Responses.",
                param=join(place, "type"),
                should_retry=False,
            )
    if listed:
        converted["tools"] = listed
        converted |= _convert_choice(fields, listed, names, losses)
    if uses_max is not None:
        converted["max_tool_calls"] = uses_max
        if sum(tool["type"] != "function" for tool in listed) > 1:
            losses.add("web_search.max_uses", "tools")
    return converted


def check_no_choice(fields: Fields) -> None:
    """Refuse a choice among tools where there are none."""
    choice = read_settings(fields, "tool_choice")
    if choice and read_choice(choice, "type", "tool_choice", CHOICES) in ("any", "tool"):
        fail("tool_choice", "tool_choice may only be specified while providing tools")


def check_name(tool: Fields, seen: set[str]) -> None:
    """Refuse a second tool of the same name."""
    name = tool.get("name")
    if isinstance(name, str):
        if name in seen:
            fail("tools", "Tool names must be unique.")
        seen.add(name)


def _convert_function(tool: Fields, place: str, names: ToolNames, losses: Losses) -> dict[str, Any]:
    name = read_identifier(tool, "name", place, ORIGINAL_CHARACTERS_MAX)
    schema = read_object(tool, "input_schema", place)
    read_choice(schema, "type", join(place, "input_schema"), ("object",))
    known = ("type", "name", "input_schema", "description", "strict")
    _report_options(tool, place, known, losses)
    return {
        "type": "function",
        "name": names.shorten(name),
        "description": read_optional(tool, "description", place, str),
        "parameters": schema,
        # Left out, Responses takes it for true, and refuses most schemas.
        "strict": bool(read_optional(tool, "strict", place, bool)),
    }


def _convert_web_search(tool: Fields, place: str, losses: Losses) -> dict[str, Any]:
    converted: dict[str, Any] = {"type": "web_search"}
    if location := read_optional(tool, "user_location", place, dict):
        converted["user_location"] = location
    if domains := read_optional(tool, "allowed_domains", place, list):
        converted["filters"] = {"allowed_domains": domains}
    if tool.get("blocked_domains"):
        losses.add("web_search.blocked_domains", join(place, "blocked_domains"))
    known = ("user_location", "allowed_domains", "blocked_domains", "max_uses", "type", "name")
    _report_options(tool, place, known, losses)
    return converted


def _report_options(tool: Fields, place: str, known: Sequence[str], losses: Losses) -> None:
    """Report what Responses has no counterpart for; options that are off, or the default, are
    none."""
    for option in TOOL_OPTIONS:
        if tool.get(option) not in (None, False, [], ["direct"]):
            losses.add("tool options", join(place, option))
    losses.add_rest(tool, (*known, *TOOL_OPTIONS, "cache_control"), place)


def _convert_choice(
    fields: Fields, tools: Sequence[Mapping[str, Any]], names: ToolNames, losses: Losses
) -> dict[str, Any]:
    choice = fields.get("tool_choice")
    if choice is None:
        return {}
    choice = check_object(choice, "tool_choice")
    kind = read_choice(choice, "type", "tool_choice", CHOICES)
    losses.add_rest(choice, ("type", "name", "disable_parallel_tool_use"), "tool_choice")
    converted: dict[str, Any] = {}
    if kind == "tool":
        name = read_text(choice, "name", "tool_choice")
        converted["tool_choice"] = _name_tool(name, tools, names)
    else:
        converted["tool_choice"] = {"auto": "auto", "any": "required", "none": "none"}[kind]
    if read_optional(choice, "disable_parallel_tool_use", "tool_choice", bool):
        converted["parallel_tool_calls"] = False
    return converted


def _name_tool(name: str, tools: Sequence[Mapping[str, Any]], names: ToolNames) -> dict[str, Any]:
    short = names.shorten(name)
    if any(tool.get("name") == short for tool in tools):
        return {"type": "function", "name": short}
    hosted = HOSTED.get(name)
    if not any(tool["type"] == hosted for tool in tools):
        fail("tool_choice.name", f"Tool '{name}' not found in provided tools")
    return {"type": hosted}
