"""Budget retries and choose their waits (law 9).

There is one owner of retries, with one budget for each origin: over ten seconds, retries may be a
fifth of the requests, or a few a second where requests are few, whichever is more. So a broken
provider is never hit harder because it is broken. Every wait has full jitter, so that calls which
failed together are not repeated together.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headgate.kit.clock import Clock
from headgate.kit.http.message import Origin


class RetryPolicy(msgspec.Struct, frozen=True):
    """Configure the limits of retrying, in seconds and counts."""

    retries_max: int = 2
    budget_ratio: float = 0.2
    budget_floor_per_second: float = 10.0
    wait_max_seconds: float = 5.0
    """A longer wait that a provider asks for is left to the client."""
    advice_max_seconds: float = 60.0
    """The longest wait that a client is asked for; a call that needs a longer one is not worth a
    retry."""
    backoff_first_seconds: float = 1.0
    backoff_max_seconds: float = 4.0


class RetryBudget:
    """Limit the retries to one origin by two leaky buckets: one is filled by requests, by the
    ratio, and the other by time. Each retry is taken from both, so the larger of the two may be
    spent, not their sum."""

    WINDOW_SECONDS = 10.0

    def __init__(self, policy: RetryPolicy, clock: Clock) -> None:
        self._ratio = policy.budget_ratio
        self._floor = policy.budget_floor_per_second
        # With a floor below one a second, the bucket must still be able to hold one retry.
        self._capacity = max(1.0, self._floor) if self._floor else 0.0
        self._clock = clock
        self._earned = 0.0
        self._filled = self._capacity
        self._at = clock.monotonic()

    def deposit(self) -> None:
        self._earned += self._ratio

    def withdraw(self) -> bool:
        """Return whether one retry may be made now; if so it is counted."""
        now = self._clock.monotonic()
        elapsed = now - self._at
        self._at = now
        self._filled = min(self._capacity, self._filled + elapsed * self._floor)
        # Earned retries decay instead of expiring, so no log of requests has to be kept.
        self._earned = max(0.0, self._earned * (1 - elapsed / self.WINDOW_SECONDS))
        if self._earned < 1 and self._filled < 1:
            return False
        self._earned = max(0.0, self._earned - 1)
        self._filled = max(0.0, self._filled - 1)
        return True

    def is_idle(self, now: float) -> bool:
        """Return whether the budget has been unused for so long that it equals a new one."""
        rest = max(self.WINDOW_SECONDS, self._capacity / self._floor if self._floor else 0.0)
        return now - self._at >= rest


class RetryBudgets:
    """Hold a budget for each origin. Users choose the origins, so only a limited number is kept."""

    KEPT_MAX = 1024

    def __init__(self, policy: RetryPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._budgets: dict[Origin, RetryBudget] = {}

    def __len__(self) -> int:
        return len(self._budgets)

    def find(self, origin: Origin) -> RetryBudget:
        """Return the budget of an origin; a new, full one for an unknown or long idle origin."""
        budget = self._budgets.get(origin)
        if budget is None:
            if len(self._budgets) >= self.KEPT_MAX:
                self._prune()
            budget = self._budgets[origin] = RetryBudget(self._policy, self._clock)
        return budget

    def _prune(self) -> None:
        """Drop the idle budgets, and the oldest where none is idle."""
        now = self._clock.monotonic()
        kept = {o: budget for o, budget in self._budgets.items() if not budget.is_idle(now)}
        if len(kept) == self.KEPT_MAX:
            del kept[next(iter(kept))]
        self._budgets = kept


def wait_seconds(
    policy: RetryPolicy, attempt: int, advised: float | None, draw: Callable[[], float]
) -> float | None:
    """Return the seconds to wait before attempt `attempt + 1`; None when the provider asks for too
    much.

    `draw` returns a number in [0, 1). The jitter comes on top of what the provider asks for.
    """
    if advised is not None and advised > policy.wait_max_seconds:
        return None
    ceiling = min(policy.backoff_max_seconds, policy.backoff_first_seconds * 2 ** (attempt - 1))
    return (advised or 0.0) + ceiling * draw()
