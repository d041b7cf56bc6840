"""Share the places for deliveries between endpoints, so that a slow one delays no other.

Each endpoint has a window: how many of its deliveries may be on their way. It grows while they
succeed quickly, and shrinks to one when they fail or take long. Endpoints whose last attempt failed
share half of all places at most, so that any number of broken receivers leaves room for the others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec

from headgate.webhooks.model.delivery import Attempt, DeliveryStatus
from headgate.webhooks.store.deliveries import DueEndpoint

WINDOW_FIRST = 4
SLOW_MICROSECONDS = 2_000_000
THROTTLE_SECONDS = 5.0
"""The least pause of an endpoint after 429, 502 or 504."""
FORGET_SECONDS = 600.0


class Window:
    """Hold the state of one endpoint in this process."""

    __slots__ = ("is_failing", "paused_until", "running", "size", "used_at")

    def __init__(self, now: float) -> None:
        self.size = float(WINDOW_FIRST)
        self.running = 0
        self.is_failing = False
        self.paused_until = 0.0
        self.used_at = now


class Quota(msgspec.Struct, frozen=True):
    """Allow an endpoint to claim so many deliveries."""

    endpoint_id: str
    limit: int


class DeliveryFlow:
    """Decide how many deliveries of which endpoint may start now."""

    def __init__(
        self, *, in_flight_max: int, endpoint_in_flight_max: int, read_now: Callable[[], float]
    ) -> None:
        self._in_flight_max = in_flight_max
        self._endpoint_max = endpoint_in_flight_max
        self._now = read_now
        self._windows: dict[str, Window] = {}
        self._turn = 0
        self.running = 0
        self._failing_running = 0

    def plan(self, due: Iterable[DueEndpoint], *, now_microseconds: int) -> list[Quota]:
        """Divide the free places between the endpoints that have something due, each in turn
        being the first."""
        ready = [each.endpoint_id for each in due if each.due_at <= now_microseconds]
        if not ready:
            return []
        self._turn = (self._turn + 1) % len(ready)
        ready = ready[self._turn :] + ready[: self._turn]
        quotas: list[Quota] = []
        free = self._in_flight_max - self.running
        failing_free = self._in_flight_max // 2 - self._failing_running
        share = max(1, free // len(ready))
        for endpoint_id in ready:
            window = self._find(endpoint_id)
            limit = min(self._find_room(window), share, free)
            if window.is_failing:
                limit = min(limit, failing_free)
                failing_free -= max(0, limit)
            if limit > 0:
                quotas.append(Quota(endpoint_id, limit))
                free -= limit
        return quotas

    def take(self, endpoint_id: str) -> bool:
        """Count a delivery that starts; return whether its endpoint is failing."""
        window = self._find(endpoint_id)
        window.running += 1
        window.used_at = self._now()
        self.running += 1
        if window.is_failing:
            self._failing_running += 1
        return window.is_failing

    def give_back(self, endpoint_id: str, *, was_failing: bool) -> None:
        self._find(endpoint_id).running -= 1
        self.running -= 1
        if was_failing:
            self._failing_running -= 1

    def learn(self, attempt: Attempt, *, throttled: bool) -> None:
        """Adapt the window of an endpoint to the result of an attempt."""
        if not attempt.counts:
            return
        window = self._find(attempt.delivery.endpoint_id)
        succeeded = attempt.status is DeliveryStatus.DELIVERED
        window.is_failing = not succeeded
        if succeeded and attempt.latency_microseconds < SLOW_MICROSECONDS:
            window.size = min(window.size + 1, self._endpoint_max)
        else:
            window.size = max(1.0, window.size / 2)
        if throttled:
            window.size = 1.0
            asked = THROTTLE_SECONDS if attempt.next_at is None else attempt.next_at - attempt.at
            window.paused_until = max(
                window.paused_until, attempt.at + max(THROTTLE_SECONDS, asked)
            )

    def forget_unused(self) -> None:
        """Drop the state of endpoints that got nothing for a while."""
        oldest = self._now() - FORGET_SECONDS
        self._windows = {
            endpoint_id: window
            for endpoint_id, window in self._windows.items()
            if window.running or window.used_at > oldest
        }

    def _find_room(self, window: Window) -> int:
        if self._now() < window.paused_until:
            return 0
        return int(window.size) - window.running

    def _find(self, endpoint_id: str) -> Window:
        window = self._windows.get(endpoint_id)
        if window is None:
            window = self._windows[endpoint_id] = Window(self._now())
        return window
