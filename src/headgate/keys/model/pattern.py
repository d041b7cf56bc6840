"""Names with `*` for any part, and which of two patterns lets more pass."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

PLACEHOLDER = "\0"
"""A character that no name and no pattern has."""
_STARS = re.compile(r"\*{2,}")


def collapse_stars(pattern: str) -> str:
    """The same pattern with single stars."""
    return _STARS.sub("*", pattern)


def matches(name: str, pattern: str) -> bool:
    """Whether a name fits a pattern whose only wildcard is `*`."""
    return fnmatch.fnmatchcase(name, pattern)


def is_within(pattern: str, among: Sequence[str]) -> bool:
    """Whether everything that fits `pattern` fits one of the others.

    A star of `pattern` stands for any text, so also for a character that nobody else writes: where
    that is let through, a star let it through, which lets everything through in its place. So one
    match decides, also for several patterns that would share the work.
    """
    name = pattern.replace("*", PLACEHOLDER)
    return any(matches(name, each) for each in among)
