"""Who calls an action or a tool: a key, or a person through an application that they connected."""

from __future__ import annotations

import msgspec

from headgate.audit.model import Actor, ActorKind
from headgate.keys.model import allows
from headgate.oauth.model.grant import OAuthGrant
from headgate.oauth.model.scope import FULL, READ, WRITE, close_scopes
from headgate.relay.ports import Grant

__all__ = [
    "FULL",
    "READ",
    "WRITE",
    "ToolCaller",
    "find_key_scopes",
    "make_application_caller",
    "make_key_caller",
]

MANAGEMENT_SCOPES = (
    ("connectors:read", READ),
    ("connectors:write", WRITE),
    ("credentials:write", FULL),
)
"""The permissions of management keys, and the scope that each one gives."""


class ToolCaller(msgspec.Struct, frozen=True, kw_only=True):
    """Represent an authenticated caller of actions and tools.

    The limits, the budget and the receipts of its calls are those of `grant`. `scopes` is closed:
    with `mcp:full` it has the other two as well. An inference key has `mcp:read` and `mcp:write`; a
    management key what its permissions give (`find_key_scopes`); a connected application
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
    """Return the closed scopes of an API key: an inference key runs tools, and a management key has
    what its permissions give."""
    if not grant.management:
        return frozenset(close_scopes((WRITE,)))
    return frozenset(
        close_scopes(
            scope
            for permission, scope in MANAGEMENT_SCOPES
            if allows(grant.permissions, permission)
        )
    )


def make_key_caller(
    grant: Grant, *, address: str = "", user_agent: str = "", is_signed: bool = False
) -> ToolCaller:
    """Return the caller that an API key is."""
    return ToolCaller(
        grant=grant,
        scopes=find_key_scopes(grant),
        actor=Actor(ActorKind.KEY, grant.key_id, "", address, user_agent),
        address=address,
        is_signed=is_signed,
    )


def make_application_caller(
    application: OAuthGrant, grant: Grant, *, address: str = "", user_agent: str = ""
) -> ToolCaller:
    """Return the caller that a connected application is. `grant` is that of its key."""
    person_id, client = application.person_id, application.client_name
    return ToolCaller(
        grant=grant,
        scopes=frozenset(application.scopes),
        actor=Actor(ActorKind.PERSON, person_id, client, address, user_agent),
        address=address,
        client_name=client,
    )
