"""Who calls an action or a tool: a key, or a person through an application that they connected."""

from __future__ import annotations

import msgspec

from headgate.audit.model import Actor
from headgate.keys.model import allows
from headgate.oauth.model.scope import FULL, READ, SCOPES, WRITE, close_scopes
from headgate.relay.ports import Grant

__all__ = ["FULL", "READ", "SCOPES", "WRITE", "ToolCaller", "find_key_scopes"]

SETUP_PERMISSION = "credentials:write"
"""What a management key must hold to set up and remove integrations."""


class ToolCaller(msgspec.Struct, frozen=True, kw_only=True):
    """Represent an authenticated caller of actions and tools.

    The limits, the budget and the receipts of its calls are those of `grant`. `scopes` is closed:
    with `mcp:full` it has the other two as well. An inference key has `mcp:read` and `mcp:write`; a
    management key what its permissions give (`policy.list_key_scopes`); a connected application
    what the person consented to and still may. `address` is the client's.
    """

    grant: Grant
    scopes: frozenset[str]
    actor: Actor
    address: str = ""
    client_name: str = ""
    """The application, as it names itself; for people to read, never to decide by."""
    is_signed: bool = False
    """Whether the request was signed and the signature was checked. Of a key that requires
    signatures, calls to models are refused otherwise."""

    @property
    def organization_id(self) -> str:
        return self.grant.organization_id

    @property
    def project_id(self) -> str:
        return self.grant.project_id


def find_key_scopes(grant: Grant) -> frozenset[str]:
    """Return the closed scopes of an API key: an inference key runs tools, a management key looks
    at them and, where it may write credentials, sets up integrations."""
    if not grant.management:
        return frozenset(close_scopes((WRITE,)))
    is_full = allows(grant.permissions, SETUP_PERMISSION)
    return frozenset(close_scopes((FULL,) if is_full else (READ,)))
