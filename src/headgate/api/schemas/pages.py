"""The one way in which lists are cut: `limit` and `offset`, with the total beside."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

LIMIT_MAX = 500

Limit = Annotated[int, Meta(ge=1, le=LIMIT_MAX, description="How many at most.")]
Offset = Annotated[
    int, Meta(ge=0, le=10_000_000, description="How many of the first are left out.")
]


class PageQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The query of a list. Inherit it to add filters."""

    limit: Limit = 100
    offset: Offset = 0
