"""Pinned tools: what a server offered, what was approved, and what a discovery changes in it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Mapping

import msgspec
from msgspec.structs import replace

from headgate.mcp_servers.model.definition import (
    DefinitionChange,
    ToolDefinitionRecord,
    find_differences,
    hash_definition,
    is_same,
    make_tool_name,
)


class ToolStatus(enum.Enum):
    """Say whether a tool can be called. Only an approved one can."""

    PENDING = "pending"
    """Nobody has approved it yet."""
    APPROVED = "approved"
    CHANGED = "changed"
    """The server offers another definition than the approved one."""
    BLOCKED = "blocked"
    """A manager blocked it, whatever its definition."""
    MISSING = "missing"
    """The server does not offer it any more."""


class PinnedTool(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a tool of a registered server. Times are in unix seconds.

    `approved` is the pinned definition, which callers see, and `offered` the one of the last
    discovery; None where there is none. `is_blocked` is a manager's decision.
    """

    id: str
    organization_id: str
    server_id: str
    name: str
    approved: ToolDefinitionRecord | None = None
    offered: ToolDefinitionRecord | None = None
    is_blocked: bool = False
    approved_by: str = ""
    approved_at: float | None = None
    first_seen_at: float
    last_seen_at: float

    @property
    def status(self) -> ToolStatus:
        if self.is_blocked:
            return ToolStatus.BLOCKED
        if self.offered is None:
            return ToolStatus.MISSING
        if self.approved is None:
            return ToolStatus.PENDING
        same = is_same(self.approved, self.offered)
        return ToolStatus.APPROVED if same else ToolStatus.CHANGED

    @property
    def hash(self) -> str:
        """Return the hash of the definition to judge: the offered one, else the approved one."""
        definition = self.offered or self.approved
        return "" if definition is None else hash_definition(definition)

    @property
    def approved_hash(self) -> str | None:
        return None if self.approved is None else hash_definition(self.approved)

    def find_changes(self) -> tuple[DefinitionChange, ...]:
        """Return how the offered definition differs from the approved one."""
        if self.approved is None or self.offered is None:
            return ()
        return find_differences(self.approved, self.offered)

    def make_name(self, server_name: str) -> str:
        return make_tool_name(server_name, self.name)


class Discovery(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what a server said of itself, or the `error` for which it said nothing."""

    protocol_version: str = ""
    title: str = ""
    version: str = ""
    definitions: tuple[ToolDefinitionRecord, ...] = ()
    skipped: tuple[tuple[str, str], ...] = ()
    error: str = ""


class DiscoveryChanges(msgspec.Struct, frozen=True):
    """Hold the tools that a discovery adds or changes, and the names of those of which a person
    should hear. `is_other` is whether anything is offered that was not, or the other way round."""

    added: tuple[PinnedTool, ...]
    updated: tuple[PinnedTool, ...]
    new: tuple[str, ...]
    changed: tuple[str, ...]
    missing: tuple[str, ...]
    is_other: bool


def pin(
    known: Mapping[str, PinnedTool],
    definitions: Iterable[ToolDefinitionRecord],
    make: PinnedTool,
    *,
    approves: bool,
) -> DiscoveryChanges:
    """Compare a discovery with the known tools, by name: a renamed tool is a new one.

    `make` is a template of new tools, whose `last_seen_at` is now. With `approves`, new tools are
    approved as they are.
    """
    now = make.last_seen_at
    added: list[PinnedTool] = []
    updated: list[PinnedTool] = []
    changed: list[str] = []
    is_other = False
    offered = {each.name: each for each in definitions}
    for name, definition in offered.items():
        before = known.get(name)
        if before is None:
            tool = replace(make, id=f"{make.id}{len(added):03x}", name=name, offered=definition)
            if approves:
                tool = replace(
                    tool, approved=definition, approved_by=make.approved_by, approved_at=now
                )
            added.append(tool)
            continue
        after = replace(before, offered=definition, last_seen_at=now)
        updated.append(after)
        if not is_same(before.offered, definition):
            is_other = True
            if after.status is ToolStatus.CHANGED:
                changed.append(name)
    missing = [each for each in known.values() if each.name not in offered and each.offered]
    updated += [replace(each, offered=None) for each in missing]
    return DiscoveryChanges(
        tuple(added),
        tuple(updated),
        tuple(each.name for each in added),
        tuple(changed),
        tuple(each.name for each in missing),
        is_other or bool(added or missing),
    )
