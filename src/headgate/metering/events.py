"""What metering announces."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from headgate.relay.ports import Receipt


class RequestCompleted(msgspec.Struct, frozen=True):
    """A call is over and settled; its receipt says what came of it."""

    type: ClassVar[str] = "request.completed"

    receipt: Receipt


class UsageImplausible(msgspec.Struct, frozen=True):
    """A provider reported a usage that no such request can have; what was held is all that was
    charged, until the operator decides otherwise."""

    type: ClassVar[str] = "usage.implausible"

    receipt: Receipt
