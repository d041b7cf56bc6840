"""Declare what counts windows for several processes at once."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Protocol

import msgspec

from headgate.capacity.model.pools import PoolAllocator, PoolRefusal
from headgate.capacity.model.windows import CapacityWindow, CountedLimit, WindowKey


class LimitCheck(msgspec.Struct, frozen=True):
    """Name a window that a call needs, with the limit that counts in it. `name` is what its object
    is called in a refusal."""

    window: CapacityWindow
    counted: CountedLimit
    name: str


class SharedTake(msgspec.Struct, frozen=True):
    """Hold the answer to a check: the totals of all windows, and the position of the one that
    refused; None where all were counted."""

    totals: Sequence[tuple[WindowKey, tuple[int, int]]]
    refused: int | None = None


class AnnouncedLimits(Protocol):
    """Find the limits per minute that providers announced."""

    def find(self, credential_id: str, model: str | None) -> tuple[int | None, int | None]:
        """Return requests and tokens; None for what was not announced."""
        ...


class PoolChange(msgspec.Struct, frozen=True):
    """Hold what a change of shared pools returned, and whether they could be reached."""

    reached: bool
    refusal: PoolRefusal | None = None


class SharedPools(Protocol):
    """Keep the shares of priority pools for all processes (`service.valkey_pools`)."""

    @property
    def is_available(self) -> bool:
        """Return whether it is asked at present; False for a while after a failure."""
        ...

    def change_pool(
        self,
        name: str,
        allocator: PoolAllocator,
        change: Callable[[PoolAllocator], PoolRefusal | None],
    ) -> Awaitable[PoolChange]:
        """Change pools, alone of all processes. `allocator` is brought up to date first; `change`
        may be called several times."""
        ...

    def push_pool(
        self, name: str, allocator: PoolAllocator, index: int, tokens: int, at: float
    ) -> None:
        """Add tokens that a pool used, soon."""
        ...


class SharedCounters(Protocol):
    """Count the windows of all processes (`service.valkey_counters`)."""

    @property
    def is_available(self) -> bool:
        """Return whether it is asked at present; False for a while after a failure."""
        ...

    def take(self, checks: Sequence[LimitCheck], tokens: int) -> Awaitable[SharedTake | None]:
        """Count one request with so many tokens in all windows or in none, in one step. Return None
        where it could not be reached."""
        ...

    def push(self, windows: Iterable[CapacityWindow], requests: int, tokens: int) -> None:
        """Add to windows, soon. What cannot be sent is kept while the windows are open."""
        ...
