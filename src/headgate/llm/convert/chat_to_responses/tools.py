"""Convert the tools of a chat completion's request, and the choice among them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from headgate.llm.convert.losses import Losses
from headgate.llm.convert.openai_validation import (
    Fields,
    check_object,
    check_type,
    join,
    read,
    read_choice,
    read_elements,
    read_object,
    read_settings,
    read_text,
)

NO_PARAMETERS: Mapping[str, Any] = {"type": "object", "properties": {}}
"""What a function takes that states no parameters."""
MODES = ("none", "auto", "required")
SEARCH = "web_search_options"
PLACE_FIELDS = ("city", "country", "region", "timezone")
Tool = dict[str, Any]


def convert_tools(fields: Fields, losses: Losses) -> dict[str, Any]:
    """Return `tools`, `tool_choice` and `parallel_tool_calls` of Responses."""
    listed = [
        _convert_tool(each, f"tools.{index}", losses)
        for index, each in enumerate(read_elements(fields, "tools"))
    ]
    functions = read_elements(fields, "functions")
    for index, each in enumerate(functions):
        place = f"functions.{index}"
        listed.append(_convert_function(check_object(each, place), place, losses))
    if fields.get(SEARCH) is not None:
        listed.append(_convert_search(fields, losses))
    converted: dict[str, Any] = {"tools": listed} if listed else {}
    if fields.get("tool_choice") is not None:
        converted["tool_choice"] = _convert_choice(fields, losses)
    elif fields.get("function_call") is not None:
        converted["tool_choice"] = _convert_function_choice(fields, losses)
    if fields.get("parallel_tool_calls") is not None:
        converted["parallel_tool_calls"] = fields["parallel_tool_calls"]
    elif functions:
        # An answer with `function_call` has room for one.
        converted["parallel_tool_calls"] = False
    return converted


def _convert_tool(value: Any, place: str, losses: Losses) -> Tool:
    tool = check_object(value, place)
    kind = read_choice(tool, "type", place, ("function", "custom"))
    losses.add_rest(tool, {"type", kind}, place)
    inner = read_object(tool, kind, place)
    place = f"{place}.{kind}"
    if kind == "function":
        return _convert_function(inner, place, losses)
    losses.add_rest(inner, {"name", "description", "format"}, place)
    converted: Tool = {"type": "custom", "name": read_text(inner, "name", place)}
    if inner.get("description") is not None:
        converted["description"] = inner["description"]
    if inner.get("format") is not None:
        converted["format"] = _convert_format(inner, place, losses)
    return converted


def _convert_function(function: Fields, place: str, losses: Losses) -> Tool:
    losses.add_rest(function, {"name", "description", "parameters", "strict"}, place)
    parameters = function.get("parameters")
    return {
        "type": "function",
        "name": read_text(function, "name", place),
        "description": function.get("description"),
        "parameters": NO_PARAMETERS if parameters is None else parameters,
        # Left out, Responses takes it for true, and a chat completion for false.
        "strict": function.get("strict") is True,
    }


def _convert_format(tool: Fields, place: str, losses: Losses) -> Tool:
    wanted = read_object(tool, "format", place)
    place = f"{place}.format"
    kind = read_choice(wanted, "type", place, ("text", "grammar"))
    losses.add_rest(wanted, {"type", "grammar"}, place)
    if kind == "text":
        return {"type": "text"}
    grammar = read_object(wanted, "grammar", place)
    place = f"{place}.grammar"
    losses.add_rest(grammar, {"definition", "syntax"}, place)
    return {
        "type": "grammar",
        "definition": read_text(grammar, "definition", place),
        "syntax": read_text(grammar, "syntax", place),
    }


def _convert_search(fields: Fields, losses: Losses) -> Tool:
    options = read_object(fields, SEARCH, "")
    losses.add("web_search_options", SEARCH)
    losses.add_rest(options, {"search_context_size", "user_location"}, SEARCH)
    converted: Tool = {"type": "web_search"}
    if options.get("search_context_size") is not None:
        converted["search_context_size"] = options["search_context_size"]
    location = read_settings(options, "user_location", SEARCH)
    if location:
        place = f"{SEARCH}.user_location"
        losses.add_rest(location, {"type", "approximate"}, place)
        approximate = read_settings(location, "approximate", place)
        losses.add_rest(approximate, PLACE_FIELDS, f"{place}.approximate")
        known = {name: approximate[name] for name in PLACE_FIELDS if name in approximate}
        kind = location.get("type") or "approximate"
        converted["user_location"] = {"type": kind, **known}
    return converted


def _convert_choice(fields: Fields, losses: Losses) -> Any:
    choice = fields["tool_choice"]
    place = "tool_choice"
    if isinstance(choice, str):
        return read_choice(fields, place, "", MODES)
    choice = check_object(choice, place)
    kind = read_choice(choice, "type", place, ("function", "custom", "allowed_tools"))
    if kind == "allowed_tools":
        return _convert_allowed(choice, losses)
    return _name_tool(choice, kind, place, losses)


def _convert_allowed(choice: Fields, losses: Losses) -> Tool:
    losses.add_rest(choice, {"type", "allowed_tools"}, "tool_choice")
    allowed = read_object(choice, "allowed_tools", "tool_choice")
    place = "tool_choice.allowed_tools"
    losses.add_rest(allowed, {"mode", "tools"}, place)
    tools: list[Tool] = []
    for index, each in enumerate(check_type(read(allowed, "tools", place), list, f"{place}.tools")):
        inner = f"{place}.tools.{index}"
        tool = check_object(each, inner)
        kind = read_choice(tool, "type", inner, ("function", "custom"))
        tools.append(_name_tool(tool, kind, inner, losses))
    mode = read_choice(allowed, "mode", place, ("auto", "required"))
    return {"type": "allowed_tools", "mode": mode, "tools": tools}


def _name_tool(tool: Fields, kind: str, place: str, losses: Losses) -> Tool:
    losses.add_rest(tool, {"type", kind}, place)
    named = read_object(tool, kind, place)
    place = join(place, kind)
    losses.add_rest(named, {"name"}, place)
    return {"type": kind, "name": read_text(named, "name", place)}


def _convert_function_choice(fields: Fields, losses: Losses) -> Any:
    choice = fields["function_call"]
    if isinstance(choice, str):
        return read_choice(fields, "function_call", "", ("none", "auto"))
    choice = check_object(choice, "function_call")
    losses.add_rest(choice, {"name"}, "function_call")
    return {"type": "function", "name": read_text(choice, "name", "function_call")}
