"""Limit how many events of a time window are recorded, in total and per address."""

from __future__ import annotations

from collections import Counter

import msgspec

ADDRESSES_MAX = 1_000
"""Addresses that are counted separately in one window."""
SHOWN_MAX = 5


class SuppressedEvents(msgspec.Struct, frozen=True):
    """Summarize what a window did not let through. `most` has the busiest addresses."""

    count: int
    addresses: int
    most: dict[str, int]


class EventLimiter:
    """Limit events per window, in total and per address, and count the rest. A flood from one
    address leaves room for the events of others. `end` begins the next window."""

    def __init__(self, *, in_all: int, of_address: int) -> None:
        self._in_all = in_all
        self._of_address = of_address
        self._passed: Counter[str] = Counter()
        self._held: Counter[str] = Counter()
        self._unnamed = 0

    def take(self, address: str) -> bool:
        if self._passed.total() < self._in_all and self._passed[address] < self._of_address:
            self._passed[address] += 1
            return True
        if address in self._held or len(self._held) < ADDRESSES_MAX:
            self._held[address] += 1
        else:
            self._unnamed += 1
        return False

    def end(self) -> SuppressedEvents | None:
        """Begin a new window; return what the old one suppressed, None for nothing."""
        held, unnamed = self._held, self._unnamed
        self._passed, self._held, self._unnamed = Counter(), Counter(), 0
        count = held.total() + unnamed
        if not count:
            return None
        return SuppressedEvents(count, len(held), dict(held.most_common(SHOWN_MAX)))
