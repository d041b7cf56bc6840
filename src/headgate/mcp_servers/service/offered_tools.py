"""Collects the tools that a server offers, within limits, and says why others are refused."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from headgate.mcp_servers.model.definition import (
    ToolDefinitionRecord,
    UnusableDefinitionError,
    build_definition,
    describe_skipped,
    encode_definition,
)
from headgate.mcp_servers.service.schemas import check_schemas
from headgate.mcp_servers.service.targets import McpCallLimits

SKIPPED_MAX = 50
"""How many refused tools are told of."""


class OfferedTools:
    """Collect definitions by name. `secrets` are those that the server got: a definition that
    repeats one is refused, since agents and people read it."""

    def __init__(self, limits: McpCallLimits, secrets: Sequence[bytes]) -> None:
        self.definitions: dict[str, ToolDefinitionRecord] = {}
        self.skipped: list[tuple[str, str]] = []
        self._limits = limits
        self._secrets = secrets
        self._bytes_left = limits.definition_bytes_max

    @property
    def is_full(self) -> bool:
        return len(self.definitions) >= self._limits.tools_max

    def skip(self, name: str, reason: str) -> None:
        if len(self.skipped) < SKIPPED_MAX:
            self.skipped.append(describe_skipped(name, reason))

    def take(self, *, name: str, **fields: Any) -> None:
        """Add the definition of a tool, or the reason why it is refused. `fields` are those of
        `build_definition`."""
        try:
            self._check_room(name)
            definition = build_definition(name=name, **fields)
            encoded = encode_definition(definition)
            self._check_encoded(encoded)
            check_schemas(definition)
        except UnusableDefinitionError as error:
            self.skip(name, str(error))
            return
        self._bytes_left -= len(encoded)
        self.definitions[name] = definition

    def _check_room(self, name: str) -> None:
        """Raise `UnusableDefinitionError`."""
        if name in self.definitions:
            raise UnusableDefinitionError("another tool has the same name")
        if self.is_full:
            raise UnusableDefinitionError(
                f"a server may have at most {self._limits.tools_max} tools"
            )

    def _check_encoded(self, encoded: bytes) -> None:
        """Raise `UnusableDefinitionError`."""
        if len(encoded) > self._bytes_left:
            raise UnusableDefinitionError(
                f"the definitions have more than {self._limits.definition_bytes_max} bytes together"
            )
        if any(each in encoded for each in self._secrets):
            raise UnusableDefinitionError("it repeats a header or a token that the server got")
