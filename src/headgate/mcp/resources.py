"""The resources of the MCP server: what a caller may read about its models and its usage."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from typing import Any

import msgspec

from headgate.connectors.model.caller import READ, ToolCaller
from headgate.mcp.errors import UnknownResourceError

MEDIA_TYPE = "application/json"

Read = Callable[[ToolCaller], Awaitable[Any]]
"""Return the content of a resource for one caller, as JSON types."""


class SharedResource(msgspec.Struct, frozen=True):
    uri: str
    name: str
    title: str
    description: str
    read: Read


class ResourceRegistry:
    """Hold the resources. All are for callers with the scope `mcp:read`."""

    def __init__(self, resources: Sequence[SharedResource]) -> None:
        self._resources = {each.uri: each for each in resources}

    def list_for(self, caller: ToolCaller) -> list[SharedResource]:
        return list(self._resources.values()) if READ in caller.scopes else []

    async def read(self, caller: ToolCaller, uri: str) -> bytes:
        """Return a resource as JSON. Raise `UnknownResourceError`."""
        resource = self._resources.get(uri) if READ in caller.scopes else None
        if resource is None:
            raise UnknownResourceError(f"There is no resource {uri[:200]!r}.", param="uri")
        return msgspec.json.encode(await resource.read(caller))
