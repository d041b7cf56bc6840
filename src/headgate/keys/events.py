"""What keys announce."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class KeyRevoked(msgspec.Struct, frozen=True, tag_field="event", tag="key.revoked"):
    """A key is refused from now on, for good. Never its token."""

    type: ClassVar[str] = "key.revoked"

    key_id: str
    organization_id: str
    project_id: str
    name: str
    revoked_at: float
