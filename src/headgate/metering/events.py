"""What metering announces."""

from __future__ import annotations

from typing import ClassVar

import msgspec

from headgate.relay.ports import Receipt


class RequestCompleted(msgspec.Struct, frozen=True):
    """A call is over and settled; its receipt says what came of it."""

    type: ClassVar[str] = "request.completed"

    receipt: Receipt
