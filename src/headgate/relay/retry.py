"""When an attempt may be made again, and how long to wait before it (law 9).

One owner, one budget: over ten seconds, retries may be a fifth of the requests, or a few a second
where requests are few; so a broken provider is never hit harder because it is broken.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headgate.kit.clock import Clock


class RetryPolicy(msgspec.Struct, frozen=True):
    """Limits of retrying; seconds and counts."""

    retries_max: int = 2
    budget_ratio: float = 0.2
    budget_floor_per_second: float = 10.0
    wait_max_seconds: float = 5.0
    """A provider that asks for more than this is not waited for: the client is told."""
    backoff_first_seconds: float = 0.25
    backoff_max_seconds: float = 4.0


class RetryBudget:
    """A leaking bucket: every request fills it by the ratio, every retry takes one."""

    WINDOW_SECONDS = 10.0

    def __init__(self, policy: RetryPolicy, clock: Clock) -> None:
        self._ratio = policy.budget_ratio
        self._floor = policy.budget_floor_per_second
        self._clock = clock
        self._earned = 0.0
        self._filled = self._floor
        self._at = clock.monotonic()

    def deposit(self) -> None:
        """A request is made for the first time."""
        self._earned += self._ratio

    def withdraw(self) -> bool:
        """Whether one retry may be made now; if so it is counted."""
        now = self._clock.monotonic()
        elapsed = now - self._at
        self._at = now
        self._filled = min(self._floor, self._filled + elapsed * self._floor)
        self._earned = max(0.0, self._earned * (1 - elapsed / self.WINDOW_SECONDS))
        if self._earned >= 1:
            self._earned -= 1
            return True
        if self._filled >= 1:
            self._filled -= 1
            return True
        return False


def wait_seconds(
    policy: RetryPolicy, attempt: int, advised: float | None, draw: Callable[[], float]
) -> float | None:
    """How long to wait before attempt `attempt + 1`; None when the provider asks for too much.

    `draw` gives a number in [0, 1): full jitter on the backoff, a tenth on what was advised.
    """
    if advised is not None:
        return None if advised > policy.wait_max_seconds else advised * (1 + draw() / 10)
    ceiling = min(policy.backoff_max_seconds, policy.backoff_first_seconds * 2 ** (attempt - 1))
    return ceiling * (0.5 + draw() / 2)
