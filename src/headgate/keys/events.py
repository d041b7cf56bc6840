"""The events that keys publish in the outbox."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class KeyRevoked(msgspec.Struct, frozen=True, tag_field="event", tag="key.revoked"):
    type: ClassVar[str] = "key.revoked"

    key_id: str
    organization_id: str
    project_id: str
    name: str
    revoked_at: float
