"""The one policy of tools: who sees and may run what, over REST and MCP alike."""

from __future__ import annotations

from headgate.audit.model import Actor, ActorKind
from headgate.connectors.model.caller import FULL, READ, WRITE, ToolCaller
from headgate.connectors.model.errors import ToolForbiddenError
from headgate.connectors.model.tool import ToolDefinition
from headgate.keys.model import allows
from headgate.oauth.model.scope import close_scopes
from headgate.relay.admission import is_in_scope
from headgate.relay.ports import Grant

MANAGEMENT_SCOPES = (
    ("connectors:read", READ),
    ("connectors:write", WRITE),
    ("credentials:write", FULL),
)
"""The permissions of management keys, and the scope that each one gives."""


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
    if tool.endpoints and not any(
        is_in_scope(endpoint, grant.endpoints) for endpoint in tool.endpoints
    ):
        return _deny(f"This key may not use the endpoints that {tool.name} calls.")
    return None


def list_key_scopes(grant: Grant) -> frozenset[str]:
    """Return the scopes of a key: an inference key reads and runs tools; a management key has what
    its permissions name."""
    if not grant.management:
        return frozenset({READ, WRITE})
    held = [
        scope
        for permission, scope in MANAGEMENT_SCOPES
        if allows(grant.permissions, permission)
    ]
    return frozenset(close_scopes(held))


def make_key_caller(
    grant: Grant, *, address: str = "", user_agent: str = "", is_signed: bool = False
) -> ToolCaller:
    """Return the caller that a key is."""
    return ToolCaller(
        grant=grant,
        scopes=list_key_scopes(grant),
        actor=Actor(ActorKind.KEY, grant.key_id, "", address, user_agent),
        address=address,
        is_signed=is_signed,
    )


def _deny(message: str) -> ToolForbiddenError:
    return ToolForbiddenError(message, should_retry=False)
