"""Count what limits allow, in the memory of one process, and exchange it with the database.

Counting is one step of the event loop, so it is exact in one process. The database gets the counts
at intervals: a restart continues from them, and other processes see them (decision 0040).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from msgspec.structs import replace

from headgate.capacity.model.windows import (
    CapacityWindow,
    CountedLimit,
    StoredCount,
    WindowKey,
    find_window,
)
from headgate.relay.capacity_limits import MINUTE

VALUES_MAX = 10_000
OTHERS = "others"
"""The bucket of further values of a dimension, once there are too many to count each apart."""
SWEEP_SECONDS = 30.0


class Windows:
    """Hold the windows that are open. `windows_max` bounds how many, and `values_max` those of one
    limit's dimension; beyond either, further values of a dimension share one window. So one limit
    leaves room for those of others. `keeps_minutes` says that the database gets the minutes, too,
    which only other processes need."""

    def __init__(
        self,
        *,
        windows_max: int = 100_000,
        values_max: int = VALUES_MAX,
        keeps_minutes: bool = False,
    ) -> None:
        self._windows: dict[WindowKey, CapacityWindow] = {}
        self._windows_max = windows_max
        self._values_max = values_max
        self._values: Counter[WindowKey] = Counter()
        """How many values of each dimension have a window, by the window of all of them."""
        self._keeps_minutes = keeps_minutes
        self._unstored: dict[WindowKey, CapacityWindow] = {}
        self._swept_at = 0.0

    def __len__(self) -> int:
        return len(self._windows)

    def open(
        self, level: str, owner_id: str, counted: CountedLimit, bucket: str, now: float
    ) -> CapacityWindow:
        """Return the window of a limit at a time, in unix seconds."""
        starts_at, ends_at = find_window(counted.period, now)
        key = WindowKey(level, owner_id, counted.name, bucket, starts_at)
        window = self._windows.get(key)
        if window is not None:
            return window
        if bucket and bucket != OTHERS and not self._has_room(key, now):
            return self.open(level, owner_id, counted, OTHERS, now)
        return self._begin(key, ends_at)

    def _has_room(self, key: WindowKey, now: float) -> bool:
        """Return whether a further value of a dimension may have its own window."""
        if self._values[replace(key, bucket=OTHERS)] >= self._values_max:
            return False
        if len(self._windows) >= self._windows_max:
            self.sweep(now)
        return len(self._windows) < self._windows_max

    def _begin(self, key: WindowKey, ends_at: float | None) -> CapacityWindow:
        if key.bucket:
            self._values[replace(key, bucket=OTHERS)] += 1
        window = self._windows[key] = CapacityWindow(key, ends_at)
        return window

    def find(
        self, level: str, owner_id: str, counted: CountedLimit, bucket: str, now: float
    ) -> CapacityWindow | None:
        """Return a window that is open, without opening it."""
        starts_at, _ = find_window(counted.period, now)
        return self._windows.get(WindowKey(level, owner_id, counted.name, bucket, starts_at))

    def list_values(
        self, level: str, owner_id: str, counted: CountedLimit, now: float
    ) -> list[CapacityWindow]:
        """Return the open windows of all values of a limit's dimension, the most used first."""
        starts_at, _ = find_window(counted.period, now)
        found = [
            window
            for key, window in self._windows.items()
            if key.starts_at == starts_at
            and key.owner_id == owner_id
            and key.limit == counted.name
            and key.level == level
        ]
        return sorted(found, key=lambda window: (-window.requests, -window.tokens))

    def add(self, windows: Iterable[CapacityWindow], requests: int, tokens: int) -> None:
        """Count in all these windows, or take back what was counted."""
        for window in windows:
            window.add(requests, tokens)
            if self._keeps_minutes or window.key.limit.partition("/")[0] != MINUTE:
                self._unstored[window.key] = window

    def take_unstored(self) -> list[StoredCount]:
        """Return what the database does not have yet, as differences. They count as stored until
        `put_back`."""
        taken: list[StoredCount] = []
        unstored, self._unstored = self._unstored, {}
        for window in unstored.values():
            requests, tokens = window.unstored_requests, window.unstored_tokens
            if requests or tokens:
                window.unstored_requests = window.unstored_tokens = 0
                taken.append(StoredCount(window.key, window.ends_at, requests, tokens))
        return taken

    def put_back(self, taken: Iterable[StoredCount]) -> None:
        """Keep differences that could not be stored."""
        for difference in taken:
            window = self._windows.get(difference.key)
            if window is not None:
                window.unstored_requests += difference.requests
                window.unstored_tokens += difference.tokens
                self._unstored[window.key] = window

    def take_over(self, stored: Sequence[StoredCount], now: float) -> None:
        """Replace counts by what the database has of all processes, and what it does not have of
        this one."""
        for count in stored:
            if count.ends_at is not None and count.ends_at <= now:
                continue
            window = self._windows.get(count.key)
            if window is None:
                if len(self._windows) >= self._windows_max:
                    continue
                window = self._begin(count.key, count.ends_at)
            window.requests = count.requests + window.unstored_requests
            window.tokens = count.tokens + window.unstored_tokens

    def take_totals(self, totals: Mapping[WindowKey, tuple[int, int]]) -> None:
        """Take the counts over that Valkey has of all processes."""
        for key, (requests, tokens) in totals.items():
            window = self._windows.get(key)
            if window is not None:
                window.requests, window.tokens = requests, tokens

    def sweep(self, now: float) -> None:
        """Forget the windows that have ended, at most once in a while."""
        if 0 <= now - self._swept_at < SWEEP_SECONDS:
            return
        self._swept_at = now
        for key in [key for key, window in self._windows.items() if window.has_ended(now)]:
            del self._windows[key]
            self._values.pop(replace(key, bucket=OTHERS), None)
