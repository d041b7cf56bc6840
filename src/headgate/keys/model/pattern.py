"""Patterns with `*` for any text, and whether one pattern covers another."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Sequence

# A character that occurs in no name and no pattern.
PLACEHOLDER = "\0"
_STARS = re.compile(r"\*{2,}")


def collapse_stars(pattern: str) -> str:
    return _STARS.sub("*", pattern)


def matches(name: str, pattern: str) -> bool:
    """Return whether a name matches a pattern whose only wildcard is `*`."""
    return fnmatch.fnmatchcase(name, pattern)


def is_within(pattern: str, among: Sequence[str]) -> bool:
    """Return whether every name that matches `pattern` matches one of the others.

    A star in `pattern` stands for any text, so also for a character that no pattern contains. If
    one of the others matches with that character in place of the stars, its own star matched it and
    matches everything in that place. So one match decides, and no combination of several patterns
    has to be tried.
    """
    name = pattern.replace("*", PLACEHOLDER)
    return any(matches(name, each) for each in among)
