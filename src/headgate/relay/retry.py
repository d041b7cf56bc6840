"""When an attempt may be made again, and how long to wait before it (law 9).

One owner, one budget: over ten seconds, retries may be a fifth of the requests, or a few a second
where requests are few, whichever is more; so a broken provider is never hit harder because it is
broken. Every wait has full jitter, so that calls which failed together do not come back together.
"""

from __future__ import annotations

from collections.abc import Callable

import msgspec

from headgate.kit.clock import Clock
from headgate.kit.http.message import Origin


class RetryPolicy(msgspec.Struct, frozen=True):
    """Limits of retrying; seconds and counts."""

    retries_max: int = 2
    budget_ratio: float = 0.2
    budget_floor_per_second: float = 10.0
    wait_max_seconds: float = 5.0
    """A provider that asks for more than this is not waited for: the client is told."""
    advice_max_seconds: float = 60.0
    """The longest wait that a client is asked for; what needs longer is not worth trying again."""
    backoff_first_seconds: float = 1.0
    backoff_max_seconds: float = 4.0


class RetryBudget:
    """Two leaking buckets of which each retry takes from both: one is filled by the requests, by
    the ratio, the other by time. So the larger of the two is what may be spent, not their sum."""

    WINDOW_SECONDS = 10.0

    def __init__(self, policy: RetryPolicy, clock: Clock) -> None:
        self._ratio = policy.budget_ratio
        self._floor = policy.budget_floor_per_second
        # A floor of less than one a second is still one now and then.
        self._capacity = max(1.0, self._floor) if self._floor else 0.0
        self._clock = clock
        self._earned = 0.0
        self._filled = self._capacity
        self._at = clock.monotonic()

    def deposit(self) -> None:
        """A request is made for the first time."""
        self._earned += self._ratio

    def withdraw(self) -> bool:
        """Whether one retry may be made now; if so it is counted."""
        now = self._clock.monotonic()
        elapsed = now - self._at
        self._at = now
        self._filled = min(self._capacity, self._filled + elapsed * self._floor)
        self._earned = max(0.0, self._earned * (1 - elapsed / self.WINDOW_SECONDS))
        if self._earned < 1 and self._filled < 1:
            return False
        self._earned = max(0.0, self._earned - 1)
        self._filled = max(0.0, self._filled - 1)
        return True

    def is_idle(self, now: float) -> bool:
        """Whether nothing was spent for so long that a new budget would be no other."""
        rest = max(self.WINDOW_SECONDS, self._capacity / self._floor if self._floor else 0.0)
        return now - self._at >= rest


class RetryBudgets:
    """A budget for each origin. Others choose the origins, so only so many are kept."""

    KEPT_MAX = 1024

    def __init__(self, policy: RetryPolicy, clock: Clock) -> None:
        self._policy = policy
        self._clock = clock
        self._budgets: dict[Origin, RetryBudget] = {}

    def __len__(self) -> int:
        return len(self._budgets)

    def find(self, origin: Origin) -> RetryBudget:
        """The budget of an origin; a full one for an origin that is new or was long at rest."""
        budget = self._budgets.get(origin)
        if budget is None:
            if len(self._budgets) >= self.KEPT_MAX:
                self._prune()
            budget = self._budgets[origin] = RetryBudget(self._policy, self._clock)
        return budget

    def _prune(self) -> None:
        """Drop those that are at rest, and the oldest where none is."""
        now = self._clock.monotonic()
        kept = {o: budget for o, budget in self._budgets.items() if not budget.is_idle(now)}
        if len(kept) == self.KEPT_MAX:
            del kept[next(iter(kept))]
        self._budgets = kept


def wait_seconds(
    policy: RetryPolicy, attempt: int, advised: float | None, draw: Callable[[], float]
) -> float | None:
    """How long to wait before attempt `attempt + 1`; None when the provider asks for too much.

    `draw` gives a number in [0, 1). What was advised is never undercut: the jitter comes on top.
    """
    if advised is not None and advised > policy.wait_max_seconds:
        return None
    ceiling = min(policy.backoff_max_seconds, policy.backoff_first_seconds * 2 ** (attempt - 1))
    return (advised or 0.0) + ceiling * draw()
