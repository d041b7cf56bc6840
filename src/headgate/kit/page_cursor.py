"""Name the place in a list, newest first, behind which its next page begins."""

from __future__ import annotations

import re

import msgspec

from headgate.kit.errors import HeadgateError, Kind

_CURSOR = re.compile(r"(?P<created_at>[0-9]{1,17})\.(?P<id>[\x21-\x7e]{0,128})")


class InvalidPageCursorError(HeadgateError):
    """The cursor of a page cannot be read.

    Send the `next_cursor` of the page before, unchanged, or none for the first page.
    """

    kind = Kind.INVALID
    code = "invalid_cursor"


class PageCursor(msgspec.Struct, frozen=True):
    """Hold the place after which a page begins, newest first. `created_at` is in microseconds; an
    empty `id` skips everything of that microsecond."""

    created_at: int
    id: str = ""

    def __str__(self) -> str:
        return f"{self.created_at}.{self.id}"


def parse_page_cursor(text: str) -> PageCursor:
    """Parse the cursor of a page. Raise `InvalidPageCursorError`."""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise InvalidPageCursorError(
            "The cursor is not one of this list: send the `next_cursor` of the page before.",
            param="cursor",
        )
    return PageCursor(int(found["created_at"]), found["id"])
