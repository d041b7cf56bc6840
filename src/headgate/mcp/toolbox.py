"""All tools of a caller, from every source in one order, and the one way to call them."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Iterator, Sequence

import msgspec
import structlog

from headgate.connectors.model.caller import ToolCaller
from headgate.connectors.model.errors import ToolForbiddenError
from headgate.connectors.model.policy import find_denial
from headgate.connectors.model.tool import ToolDefinition, ToolSource
from headgate.kit.errors import HeadgateError
from headgate.mcp import meta_tools
from headgate.mcp.errors import NoToolsError, UnknownToolError
from headgate.mcp.tool_search import search

NAME_MAX = 64
NAME = re.compile(rf"[a-zA-Z0-9_-]{{1,{NAME_MAX}}}")
LISTED_MAX = 40
"""With more tools, the list shows those of the platform and how to find the others."""
NEAR_MAX = 3
WARNED_MAX = 1_000

Deny = Callable[[ToolCaller, ToolDefinition], ToolForbiddenError | None]
ExplainAbsence = Callable[[ToolCaller, str], HeadgateError | None]
"""Return why no tool of a name is offered to a caller, where a source knows it."""

log = structlog.get_logger(__name__)


class OfferedTool(msgspec.Struct, frozen=True):
    """Hold a tool with its source. `denial` says why the caller may not use it."""

    definition: ToolDefinition
    source: ToolSource
    denial: ToolForbiddenError | None = None


class ToolSet(msgspec.Struct, frozen=True):
    """Hold what the sources offer to one caller, by name and in order."""

    caller: ToolCaller
    tools: dict[str, OfferedTool]
    former_names: dict[str, OfferedTool]
    explanations: Sequence[ExplainAbsence] = ()

    def find(self, name: str) -> OfferedTool | None:
        """Return the tool of a name or of a former name, whether or not the caller may use it."""
        return self.tools.get(name) or self.former_names.get(name)

    @property
    def allowed(self) -> list[ToolDefinition]:
        return [each.definition for each in self.tools.values() if each.denial is None]

    def list_shown(self) -> list[ToolDefinition]:
        """Return the default list. Raise `NoToolsError` where it would be empty."""
        allowed = self.allowed
        if not allowed:
            raise self._explain_emptiness()
        shown = [each for each in allowed if each.is_listed]
        if len(shown) > LISTED_MAX:
            shown = [each for each in shown if not each.source]
        if len(shown) < len(allowed):
            shown += meta_tools.list_meta_tools(self.caller)
        return shown

    def search(self, query: str, limit: int) -> list[ToolDefinition]:
        return search(self.allowed, query, limit)

    def make_unknown_error(self, name: str) -> HeadgateError:
        """Return the error for a name that no tool has. It says why there is none, or names similar
        ones that the caller may use, and no others."""
        for explain in self.explanations:
            reason = explain(self.caller, name)
            if reason is not None:
                return reason
        near = ", ".join(
            difflib.get_close_matches(
                name[:NAME_MAX], [each.name for each in self.allowed], NEAR_MAX
            )
        )
        hint = f" Similar tools: {near}." if near else ""
        return UnknownToolError(f"There is no tool {name[:NAME_MAX]!r}.{hint}", param="name")

    def _explain_emptiness(self) -> NoToolsError:
        if not self.tools:
            return NoToolsError(
                "There are no tools: no integration of this organization is set up. Set one up "
                "with a management key or in the console."
            )
        return NoToolsError(
            f"This caller may use none of the {len(self.tools)} tools: the scopes, tools or "
            "endpoints of its key exclude all of them. Ask the owner of the key for access."
        )


class Toolbox:
    """Combine the sources of tools. A name belongs to the first source that offers it."""

    def __init__(
        self,
        sources: Sequence[ToolSource],
        *,
        deny: Deny = find_denial,
        explanations: Sequence[ExplainAbsence] = (),
    ) -> None:
        self._sources = tuple(sources)
        self._explanations = tuple(explanations)
        self._deny = deny
        self._warned: set[str] = set()

    async def open(self, caller: ToolCaller) -> ToolSet:
        """Return the tools of a caller: one look, for a list or for a call."""
        tools: dict[str, OfferedTool] = {}
        former: dict[str, OfferedTool] = {}
        for source in self._sources:
            for definition in self._check_names(await source.list_tools(caller), tools):
                tool = OfferedTool(definition, source, self._deny(caller, definition))
                tools[definition.name] = tool
                for name in definition.former_names:
                    former.setdefault(name, tool)
        return ToolSet(caller, tools, former, self._explanations)

    def _check_names(
        self, definitions: Sequence[ToolDefinition], taken: dict[str, OfferedTool]
    ) -> Iterator[ToolDefinition]:
        for definition in definitions:
            name = definition.name
            if NAME.fullmatch(name) is None:
                self._warn("mcp.tool_name_invalid", definition)
            elif name in taken or name in (meta_tools.SEARCH, meta_tools.CALL):
                self._warn("mcp.tool_name_taken", definition)
            else:
                yield definition

    def _warn(self, event: str, definition: ToolDefinition) -> None:
        mark = f"{definition.source} {definition.name}"
        if mark not in self._warned and len(self._warned) < WARNED_MAX:
            self._warned.add(mark)
            log.warning(event, tool=repr(definition.name)[:80], source=definition.source[:80])
