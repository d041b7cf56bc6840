"""What a management key may do on the platform's own API: patterns of `noun:verb`.

The operator's permissions (`platform:...`) count only where they are named as such, or by the one
pattern `*`; so `*:read` reads everything of an organization, and nothing of the installation.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Sequence

from headgate.keys.model import pattern as patterns

EVERYTHING = "*"
ORGANIZATION = "*:*"
"""Everything in the key's organization: what a management key may that names no permissions."""
PLATFORM_PREFIX = "platform:"
FORM = re.compile(r"\*|[a-z_*-]{1,64}:[a-z_*-]{1,64}")


@functools.lru_cache(maxsize=4096)
def allows(held: tuple[str, ...], permission: str) -> bool:
    """Whether a management key with these permissions (none: its whole organization) may."""
    is_platform = permission.startswith(PLATFORM_PREFIX)
    return any(
        pattern == EVERYTHING
        or (names_platform((pattern,)) is is_platform and patterns.matches(permission, pattern))
        for pattern in held or (ORGANIZATION,)
    )


def names_platform(held: Sequence[str]) -> bool:
    """Whether something of the operator's is among them."""
    return any(each == EVERYTHING or each.startswith(PLATFORM_PREFIX) for each in held)


def is_within(wanted: Sequence[str], held: Sequence[str]) -> bool:
    """Whether the one's permissions are all among the other's; none are none here."""
    if EVERYTHING in held:
        return True
    own = [each for each in held if not each.startswith(PLATFORM_PREFIX)]
    platform = [each for each in held if each.startswith(PLATFORM_PREFIX)]
    return all(
        each != EVERYTHING
        and patterns.is_within(each, platform if each.startswith(PLATFORM_PREFIX) else own)
        for each in wanted
    )
