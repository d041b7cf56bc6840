"""Permissions of management keys on the platform API: patterns of `noun:verb`.

Only patterns that begin with `platform:`, and the pattern `*`, match the operator's permissions. So
`*:read` reads everything in an organization, and nothing of the platform.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from headgate.keys.model import pattern as patterns

EVERYTHING = "*"
# Everything in the organization: the default of a management key without permissions.
ORGANIZATION = "*:*"
PLATFORM_PREFIX = "platform:"
FORM = re.compile(r"\*|[a-z_*-]{1,64}:[a-z_*-]{1,64}")


# Called for every request of a key, with few distinct arguments.
@functools.lru_cache(maxsize=4096)
def allows(held: tuple[str, ...], permission: str) -> bool:
    """Return whether the held patterns include the permission. None held means the whole
    organization."""
    is_platform = permission.startswith(PLATFORM_PREFIX)
    return any(
        pattern == EVERYTHING
        or (names_platform((pattern,)) is is_platform and patterns.matches(permission, pattern))
        for pattern in held or (ORGANIZATION,)
    )


def names_platform(held: Sequence[str]) -> bool:
    """Return whether an operator's permission is among them."""
    return any(each == EVERYTHING or each.startswith(PLATFORM_PREFIX) for each in held)


def is_within(requested: Sequence[str], held: Sequence[str]) -> bool:
    """Return whether every wanted pattern is covered by held ones. None held covers nothing."""
    if EVERYTHING in held:
        return True
    own = [each for each in held if not each.startswith(PLATFORM_PREFIX)]
    platform = [each for each in held if each.startswith(PLATFORM_PREFIX)]
    return all(
        each != EVERYTHING
        and patterns.is_within(each, platform if each.startswith(PLATFORM_PREFIX) else own)
        for each in requested
    )
