"""Organizations, their projects, and what goes wrong with them."""

from __future__ import annotations

import enum
import re

import msgspec

from headgate.kit.errors import HeadgateError, Kind

NAME_CHARACTERS_MAX = 200
NAME_PATTERN = r"^(?=.*\S)[^\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+$"
"""No control characters, no line ends, and nothing that turns the direction of what follows."""


class Role(enum.Enum):
    """What a person may do in an organization (systems.md 1.1)."""

    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    """Retired: it is kept where it was given, and confers nothing."""


class Organization(msgspec.Struct, frozen=True):
    """A tenant: everything that is owned belongs to exactly one. Times in unix seconds.

    A suspended one keeps everything, and nothing of it is let through. `version` counts changes.
    """

    id: str
    name: str
    created_at: float
    suspended_at: float | None = None
    version: int = 1


class Project(msgspec.Struct, frozen=True):
    """A part of an organization to which keys and their calls belong.

    An archived one keeps its receipts, and its keys are refused.
    """

    id: str
    organization_id: str
    name: str
    created_at: float
    archived_at: float | None = None
    version: int = 1


class InactiveAccounts(msgspec.Struct, frozen=True):
    """The ids of the projects that are archived and of the organizations that are suspended."""

    projects: frozenset[str] = frozenset()
    organizations: frozenset[str] = frozenset()


class AccountNotFoundError(HeadgateError):
    """No organization or project of that id."""

    kind = Kind.MISSING
    code = "not_found"


class InvalidNameError(HeadgateError):
    """A name that is empty, too long or not printable."""

    kind = Kind.INVALID
    code = "invalid_name"


def check_name(name: str, *, param: str = "name") -> str:
    """The name without outer blanks; `InvalidNameError` where it cannot be shown on one line."""
    stripped = name.strip()
    if len(stripped) > NAME_CHARACTERS_MAX or not re.search(NAME_PATTERN, stripped):
        message = f"A name is 1 to {NAME_CHARACTERS_MAX} printable characters on one line."
        raise InvalidNameError(message, param=param)
    return stripped
