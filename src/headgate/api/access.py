"""The declared policy of an operation: who may ask for it. `gate` is what enforces it."""

from __future__ import annotations

import enum

import msgspec

from headgate.accounts.model import Role

MANAGERS = frozenset({Role.OWNER, Role.ADMIN})
OWNERS = frozenset({Role.OWNER})


class Audience(enum.Enum):
    """To whom an operation is open at all."""

    ANYONE = "anyone"
    """Also without a login."""
    PERSON = "person"
    """Anybody who is signed in, whatever the organization."""
    ORGANIZATION = "organization"
    """Those who manage the organization that `X-Organization-ID` names, and its management keys."""
    PLATFORM = "platform"
    """The operator of this installation."""


class Access(msgspec.Struct, frozen=True):
    """A policy. `permission` is what a management key must hold; an empty one is held by no key,
    so that only a person may. `roles` are those of a person in the organization."""

    audience: Audience
    permission: str = ""
    roles: frozenset[Role] = MANAGERS


ANYONE = Access(Audience.ANYONE)
PERSON = Access(Audience.PERSON)


def organization(permission: str, *, roles: frozenset[Role] = MANAGERS) -> Access:
    """For an organization's managers, and for its keys with that permission (`keys:write`)."""
    return Access(Audience.ORGANIZATION, permission, roles)


def platform(permission: str) -> Access:
    """For the operator, and for keys that hold the permission by name (`platform:write`)."""
    return Access(Audience.PLATFORM, permission)
