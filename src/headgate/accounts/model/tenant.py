"""Organizations and their projects."""

from __future__ import annotations

import enum
import re

import msgspec

from headgate.kit.errors import HeadgateError, Kind

NAME_CHARACTERS_MAX = 200
# No control characters, line breaks, or characters that change the direction of text.
NAME_PATTERN = r"^(?=.*\S)[^\u0000-\u001f\u007f-\u009f\u2028\u2029\u202a-\u202e\u2066-\u2069]+$"


class Role(enum.Enum):
    OWNER = "owner"
    ADMIN = "admin"
    MEMBER = "member"
    """Deprecated: existing memberships keep it, and it grants nothing."""


class Organization(msgspec.Struct, frozen=True):
    """Represent a tenant: every owned object belongs to exactly one.

    A suspended organization keeps its data, and all its keys and people are refused. `version`
    counts changes. Times are unix seconds. `reporting_zone` is the IANA name of the time zone in
    which the days and months of its usage begin.
    """

    id: str
    name: str
    created_at: float
    suspended_at: float | None = None
    version: int = 1
    reporting_zone: str = "UTC"


class Project(msgspec.Struct, frozen=True):
    """Represent a part of an organization to which keys and their calls belong. An archived project
    keeps its receipts, and its keys are refused."""

    id: str
    organization_id: str
    name: str
    created_at: float
    archived_at: float | None = None
    version: int = 1


class InactiveAccounts(msgspec.Struct, frozen=True):
    projects: frozenset[str] = frozenset()
    organizations: frozenset[str] = frozenset()


class AccountNotFoundError(HeadgateError):
    """There is no organization or project of this id.

    List what you have access to, and check the id.
    """

    kind = Kind.MISSING
    code = "not_found"


class InvalidNameError(HeadgateError):
    """The name is empty, too long, or has characters that cannot be printed.

    Send a name of printable characters within the stated length.
    """

    kind = Kind.INVALID
    code = "invalid_name"


def check_name(name: str, *, param: str = "name") -> str:
    """Return the name without outer blanks. Raise `InvalidNameError`."""
    stripped = name.strip()
    if len(stripped) > NAME_CHARACTERS_MAX or not re.search(NAME_PATTERN, stripped):
        message = f"A name is 1 to {NAME_CHARACTERS_MAX} printable characters on one line."
        raise InvalidNameError(message, param=param)
    return stripped
