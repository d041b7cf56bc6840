"""The one policy of tools: who sees and may run what, over REST and MCP alike."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.connectors.model.caller import ToolCaller
from headgate.connectors.model.errors import ToolForbiddenError
from headgate.connectors.model.tool import ANY_ENDPOINT, ToolDefinition
from headgate.relay.admission import is_in_scope


def find_denial(caller: ToolCaller, tool: ToolDefinition) -> ToolForbiddenError | None:
    """Return why a caller may not use a tool, None where they may. Nobody is told of a tool that
    they may not use, so that lists and calls agree."""
    grant = caller.grant
    if tool.scope not in caller.scopes:
        return _deny(f"The tool {tool.name} needs the scope {tool.scope}.")
    if grant.management and tool.endpoints:
        return _deny(f"A management key calls no models, so it cannot run {tool.name}.")
    if not is_in_scope(tool.name, grant.tools):
        return _deny(f"This key may not use the tool {tool.name}.")
    if not is_any_endpoint_in_scope(tool.endpoints, grant.endpoints):
        return _deny(f"This key may not use the endpoints that {tool.name} calls.")
    return None


def check_allowed(caller: ToolCaller, tool: ToolDefinition) -> None:
    """Raise `ToolForbiddenError` for a tool that a caller may not use."""
    denial = find_denial(caller, tool)
    if denial is not None:
        try:
            raise denial
        finally:
            del denial  # its traceback has this frame, which must not have it


def is_any_endpoint_in_scope(endpoints: Sequence[str], patterns: tuple[str, ...]) -> bool:
    """Return whether a key may use one of the endpoints of a tool, or the tool has none."""
    return (
        not endpoints
        or ANY_ENDPOINT in endpoints
        or any(is_in_scope(endpoint, patterns) for endpoint in endpoints)
    )


def _deny(message: str) -> ToolForbiddenError:
    return ToolForbiddenError(message, should_retry=False)
