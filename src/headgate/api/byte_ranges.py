"""Ranges and preconditions of a file that is served whole or in part (RFC 9110, 13 and 14)."""

from __future__ import annotations

import re

_RANGE = re.compile(r"bytes=\s*(\d{0,15})-(\d{0,15})\s*", re.IGNORECASE)


class RangeNotSatisfiableError(ValueError):
    """Refuse a range that begins behind the end."""


def is_unchanged(etag: str, if_none_match: str | None) -> bool:
    """Return whether a client that knows these ETags has the file already."""
    if if_none_match is None:
        return False
    known = [each.strip().removeprefix("W/") for each in if_none_match.split(",")]
    return etag in known or "*" in known


def choose_range(
    size: int, etag: str, wanted: str | None, if_range: str | None
) -> tuple[int, int] | None:
    """Return the first byte and the one after the last of the part that is asked for. None is the
    whole file: also for a range of another content, for several ranges, and for malformed ones.

    Raise `RangeNotSatisfiableError`.
    """
    if wanted is None or (if_range is not None and if_range.strip() != etag):
        return None
    found = _RANGE.fullmatch(wanted)
    if found is None or not (found[1] or found[2]):
        return None
    if not found[1]:
        start, end = max(size - int(found[2]), 0), size
    else:
        start = int(found[1])
        end = min(int(found[2]) + 1, size) if found[2] else size
        if found[2] and int(found[2]) < start:
            return None
    if start >= size or start >= end:
        raise RangeNotSatisfiableError
    return start, end
