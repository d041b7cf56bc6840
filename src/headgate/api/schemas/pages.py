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
