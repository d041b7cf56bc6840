"""Events of metering for the outbox."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from headgate.relay.ports import Receipt


class RequestCompleted(msgspec.Struct, frozen=True):
    type: ClassVar[str] = "request.completed"

    receipt: Receipt


class UsageImplausible(msgspec.Struct, frozen=True):
    """Announce a usage that no such request can have. Only the hold was charged, until the
    operator decides otherwise."""

    type: ClassVar[str] = "usage.implausible"

    receipt: Receipt
