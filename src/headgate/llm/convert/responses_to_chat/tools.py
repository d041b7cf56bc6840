"""Convert the tools of a Responses request, and the choice among them."""

from __future__ import annotations

import hashlib
from typing import Any, cast

import msgspec

from headgate.llm.convert.losses import Losses
from headgate.llm.convert.openai_validation import (
    Fields,
    check_object,
    check_type,
    fail,
    fail_value,
    join,
    read_choice,
    read_list,
    read_optional,
    read_settings,
    read_text,
)
from headgate.llm.convert.responses_to_chat.refusals import refuse

NAME_CHARACTERS_MAX = 64
"""The longest name of a function that Chat Completions takes."""
HASH_CHARACTERS = 8
NAMESPACE_SEPARATOR = "__"
CUSTOM_ARGUMENT = "input"
"""The one argument of the function that a custom tool becomes."""
SEARCHES = ("web_search", "web_search_preview")
CHOICES = ("none", "auto", "required")
OPTIONS = ("async", "defer_loading", "allowed_callers", "output_schema", "caller")
_DEFAULTS: tuple[Any, ...] = (None, False, ["direct"], {"type": "direct"})
_NAMED = ("function", "custom")
PREFACES_CHARACTERS_MAX = 1_000_000
"""How long the description of a namespace may be, times its tools: each of them repeats it."""
PREFACES_TOO_LONG = "The description of a namespace is too long to be repeated for each of"
LEAVE_OUT = "Leave the tool out, or give the model a function instead."


class ToolName(msgspec.Struct, frozen=True):
    """Hold what a caller calls a tool: `kind` is `function` or `custom`."""

    name: str
    namespace: str = ""
    kind: str = "function"


class FunctionNames:
    """Give each tool a name that Chat Completions takes, and find the original one."""

    def __init__(self) -> None:
        self._originals: dict[str, ToolName] = {}

    def add(self, original: ToolName) -> str:
        """Return the name of a function for a tool."""
        name = original.name
        if original.namespace:
            name = f"{original.namespace}{NAMESPACE_SEPARATOR}{name}"
        if len(name) > NAME_CHARACTERS_MAX:
            digest = hashlib.sha256(name.encode()).hexdigest()[:HASH_CHARACTERS]
            name = f"{name[: NAME_CHARACTERS_MAX - HASH_CHARACTERS - 1]}_{digest}"
        self._originals.setdefault(name, original)
        return name

    def find(self, name: str) -> ToolName:
        """Return the original of a name; the name itself for a tool that nobody has listed."""
        return self._originals.get(name) or ToolName(name)

    def list_custom(self) -> frozenset[str]:
        return frozenset(name for name, each in self._originals.items() if each.kind == "custom")


class ToolConverter:
    """Convert the tools of one request."""

    def __init__(self, names: FunctionNames, losses: Losses) -> None:
        self.tools: list[dict[str, Any]] = []
        self._listed: set[str] = set()
        """The names of `tools`."""
        self._names = names
        self._losses = losses

    def add_all(self, tools: Any, place: str) -> None:
        """Convert a list of tools."""
        for index, each in enumerate(check_type(tools, list, place)):
            inner = join(place, index)
            self._add(check_object(each, inner), inner)

    def _add(self, tool: Fields, place: str) -> None:
        kind = read_text(tool, "type", place)
        if kind == "function":
            self._add_function(tool, place)
        elif kind == "custom":
            self._add_custom(tool, place)
        elif kind == "namespace":
            self._add_namespace(tool, place)
        elif kind.startswith(SEARCHES):
            self._losses.add("web_search", place)
        elif kind == "tool_search" and tool.get("execution") != "client":
            self._losses.add("tool_search", place)
        elif kind == "programmatic_tool_calling":
            self._losses.add(kind, place)
        else:
            refuse(join(place, "type"), f"'{kind[:40]}' is a tool of OpenAI's own. {LEAVE_OUT}")

    def _add_function(
        self, tool: Fields, place: str, namespace: str = "", preface: str = ""
    ) -> None:
        name = self._names.add(ToolName(read_text(tool, "name", place), namespace))
        function: dict[str, Any] = {"name": name}
        description = read_optional(tool, "description", place, str)
        if preface or description:
            function["description"] = "\n\n".join(filter(None, (preface, description)))
        if tool.get("parameters") is not None:
            function["parameters"] = tool["parameters"]
        if tool.get("strict") is None:
            self._losses.add("function.strict omitted", join(place, "strict"))
        else:
            function["strict"] = tool["strict"]
        report_options(tool, place, self._losses)
        known = ("type", "name", "description", "parameters", "strict", *OPTIONS)
        self._losses.add_rest(tool, known, place)
        self._list(function)

    def _add_custom(self, tool: Fields, place: str, namespace: str = "", preface: str = "") -> None:
        self._losses.add("custom", place)
        name = self._names.add(ToolName(read_text(tool, "name", place), namespace, "custom"))
        texts = [preface, read_optional(tool, "description", place, str)]
        wanted, inner = read_settings(tool, "format", place), join(place, "format")
        if wanted and read_choice(wanted, "type", inner, ("text", "grammar")) == "grammar":
            syntax, definition = (read_text(wanted, n, inner) for n in ("syntax", "definition"))
            texts.append(f"`{CUSTOM_ARGUMENT}` must match this {syntax} grammar:\n{definition}")
        report_options(tool, place, self._losses)
        known = ("type", "name", "description", "format", *OPTIONS)
        self._losses.add_rest(tool, known, place)
        function = {
            "name": name,
            "description": "\n\n".join(filter(None, texts)),
            "parameters": {
                "type": "object",
                "properties": {CUSTOM_ARGUMENT: {"type": "string"}},
                "required": [CUSTOM_ARGUMENT],
                "additionalProperties": False,
            },
        }
        self._list(function)

    def _list(self, function: dict[str, Any]) -> None:
        self.tools.append({"type": "function", "function": function})
        self._listed.add(function["name"])

    def _add_namespace(self, tool: Fields, place: str) -> None:
        name = read_text(tool, "name", place)
        preface = read_optional(tool, "description", place, str) or ""
        self._losses.add_rest(tool, ("type", "name", "description", "tools"), place)
        tools = read_list(tool, "tools", place)
        if len(preface) * len(tools) > PREFACES_CHARACTERS_MAX:
            fail(join(place, "description"), f"{PREFACES_TOO_LONG} '{join(place, 'tools')}'.")
        for index, each in enumerate(tools):
            inner = f"{place}.tools.{index}"
            nested = check_object(each, inner)
            kind = read_text(nested, "type", inner)
            if kind == "function":
                self._add_function(nested, inner, name, preface)
            elif kind == "custom":
                self._add_custom(nested, inner, name, preface)
            else:
                fail_value(join(inner, "type"), kind, _NAMED)

    def convert_choice(self, choice: Any) -> dict[str, Any]:
        """Return `tool_choice`, and `tools` where it limits them."""
        if isinstance(choice, str):
            if choice not in CHOICES:
                fail_value("tool_choice", choice, CHOICES)
            return {"tool_choice": choice} if self.tools or choice == "required" else {}
        fields = check_object(choice, "tool_choice")
        kind = read_text(fields, "type", "tool_choice")
        if kind == "allowed_tools":
            return self._limit_tools(fields)
        if kind not in _NAMED:
            refuse("tool_choice.type", f"No tool '{kind[:40]}' can be asked for.")
        self._losses.add_rest(fields, ("type", "name", "namespace"), "tool_choice")
        name = self._find_listed(fields, "tool_choice")
        return {"tool_choice": {"type": "function", "function": {"name": name}}}

    def _limit_tools(self, fields: Fields) -> dict[str, Any]:
        """Leave out all tools but those that are allowed."""
        place = "tool_choice.tools"
        self._losses.add_rest(fields, ("type", "mode", "tools"), "tool_choice")
        mode = read_text(fields, "mode", "tool_choice")
        if mode not in CHOICES[1:]:
            fail_value("tool_choice.mode", mode, CHOICES[1:])
        allowed: set[str] = set()
        for index, each in enumerate(read_list(fields, "tools", "tool_choice")):
            inner = join(place, index)
            named = check_object(each, inner)
            if read_text(named, "type", inner) in _NAMED:
                self._losses.add_rest(named, ("type", "name", "namespace"), inner)
                allowed.add(self._find_listed(named, inner))
            else:
                self._losses.add("tool_choice of another tool", inner)
        tools = [each for each in self.tools if each["function"]["name"] in allowed]
        return {"tools": tools, "tool_choice": mode} if tools else {"tools": None}

    def _find_listed(self, fields: Fields, place: str) -> str:
        name = read_text(fields, "name", place)
        namespace = read_optional(fields, "namespace", place, str) or ""
        flat = self._names.add(ToolName(name, namespace))
        if flat not in self._listed:
            param = join(place, "name")
            fail(param, f"Tool choice '{name[:NAME_CHARACTERS_MAX]}' not found in 'tools'.")
        return flat


def report_options(tool: Fields, place: str, losses: Losses) -> None:
    """Report options of a tool, or of a call, that Chat Completions lacks; defaults are none."""
    for option in OPTIONS:
        if tool.get(option) not in _DEFAULTS:
            losses.add("tool options", join(place, option))


def wrap_input(text: str) -> str:
    """Return the arguments of the function that stands for a custom tool."""
    return msgspec.json.encode({CUSTOM_ARGUMENT: text}).decode()


def unwrap_input(arguments: str) -> str:
    """Return the input of a custom tool; the arguments themselves if the model made others."""
    try:
        parsed = msgspec.json.decode(arguments)
    except (msgspec.MsgspecError, RecursionError):
        return arguments
    if not isinstance(parsed, dict):
        return arguments
    text = cast("dict[str, Any]", parsed).get(CUSTOM_ARGUMENT)
    return text if isinstance(text, str) else arguments
