"""Declare what answers calls, and what is told of their receipts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from headgate.relay.call_state import CallState
from headgate.relay.ports import Receipt
from headgate.relay.upstream import UpstreamResponse


class ReceiptObserver(Protocol):
    def observe(self, receipt: Receipt, settlement_microseconds: int) -> None:
        """Take a receipt after its commit, with the time that took. Must not raise, and must be
        cheap."""
        ...


class Backend(Protocol):
    """Answer calls: `Upstream`, or a cache before it."""

    def send(
        self, state: CallState, sleep: Callable[[float], Awaitable[None]] = asyncio.sleep
    ) -> Awaitable[UpstreamResponse]: ...
