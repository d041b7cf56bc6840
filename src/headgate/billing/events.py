"""Events of billing for the outbox."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class UsageThresholdReached(msgspec.Struct, frozen=True):
    """Announce, once in a month, that a part of a budget is used. Amounts are nano-dollars."""

    type: ClassVar[str] = "usage.threshold_reached"

    organization_id: str
    scope: str
    scope_id: str
    month: str
    threshold: int
    limit_nano: int
    used_nano: int
    managed_only: bool
    request_id: str
    """The call whose settlement reached it."""

    @property
    def id(self) -> str:
        return f"{self.type}:{self.scope}:{self.scope_id}:{self.month}:{self.threshold}"
