"""Pages of lists: `limit` and `offset` select a page, and the response has the total."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

LIMIT_MAX = 500

Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX)]
Offset = Annotated[int, Meta(ge=0, le=10_000_000)]


class PageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select a page of a list. Inherit from it to add filters."""

    limit: Limit = 100
    offset: Offset = 0

    def position(self, total: int) -> dict[str, int]:
        """Return the fields of a `Page` that holds the selected objects of `total`."""
        return {"total": total, "limit": self.limit, "offset": self.offset}


class Page(msgspec.Struct, kw_only=True):
    """Hold the position of a page. The class that inherits from it adds the list, in front."""

    total: int
    limit: int
    offset: int
