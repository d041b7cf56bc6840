"""Handles: names of content that is kept for a while, so that an agent need not carry it."""

from __future__ import annotations

import msgspec


class HandleInfo(msgspec.Struct, frozen=True, kw_only=True):
    """Describe content that was put aside for one project. `bytes` is its size, `expires_at` is in
    unix seconds; afterwards nobody can read it."""

    id: str
    media_type: str
    bytes: int
    expires_at: float
