"""Declares who may call an operation. `gate` enforces it."""

from __future__ import annotations

import enum

import msgspec

from headgate.accounts.model import Role

MANAGERS = frozenset({Role.OWNER, Role.ADMIN})
NOBODY: frozenset[Role] = frozenset()


class Audience(enum.Enum):
    ANYONE = "anyone"
    """Anyone, also without a login."""
    PERSON = "person"
    """Every signed-in person, whatever their organizations."""
    ORGANIZATION = "organization"
    """Managers of the organization that `X-Organization-ID` names, and its management keys. Below
    `/v1` a key needs no header."""
    PLATFORM = "platform"
    """The operator of this installation."""
    TOOLS = "tools"
    """API keys and connected applications, which name their organization themselves; and people of
    the `roles`, for what only reads. What a caller may run of it, `connectors.model.policy`
    decides."""


class Access(msgspec.Struct, frozen=True):
    """Declare the policy of an operation. A management key needs `permission`; with an empty one,
    only people may call it. `roles` are the roles of a person in the organization that allow it."""

    audience: Audience
    permission: str = ""
    roles: frozenset[Role] = MANAGERS
    own_key: bool = False
    """Whether an inference key may call it, too. The operation then has to limit what it shows to
    `RequestContext.own_key_id`. Only for operations below `/v1`."""
    counts_itself: bool = False
    """Whether the operation counts what it runs against the rate of the key, so that the gate only
    looks whether the rate is used up."""


ANYONE = Access(Audience.ANYONE)
PERSON = Access(Audience.PERSON)


def organization(
    permission: str, *, roles: frozenset[Role] = MANAGERS, own_key: bool = False
) -> Access:
    """Allow an organization's managers, and its management keys with the permission
    (`keys:write`); with `own_key` also its inference keys, for what is their own."""
    return Access(Audience.ORGANIZATION, permission, roles, own_key)


def platform(permission: str) -> Access:
    """Allow the operator of the server, and management keys that name the permission
    (`platform:write`)."""
    return Access(Audience.PLATFORM, permission)


def tools(
    permission: str, *, roles: frozenset[Role] = NOBODY, counts_itself: bool = False
) -> Access:
    """Allow inference keys, connected applications, and management keys with the permission
    (`connectors:read`); and people of these roles."""
    return Access(Audience.TOOLS, permission, roles, counts_itself=counts_itself)
