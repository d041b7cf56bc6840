from __future__ import annotations

import pytest

from headgate.relay.retry import RetryBudget, RetryPolicy, wait_seconds
from tests.fakes.stage import ManualClock

POLICY = RetryPolicy(budget_ratio=0.2, budget_floor_per_second=2, wait_max_seconds=5)


def spend(budget: RetryBudget) -> int:
    spent = 0
    while budget.withdraw():
        spent += 1
    return spent


def test_budget_is_a_share_of_the_calls_and_a_floor() -> None:
    budget = RetryBudget(POLICY, ManualClock())
    for _ in range(51):
        budget.deposit()
    assert spend(budget) == 10 + 2


def test_floor_comes_back_with_time_but_does_not_pile_up() -> None:
    budget = RetryBudget(POLICY, clock := ManualClock())
    assert spend(budget) == 2
    clock.seconds += 0.5
    assert spend(budget) == 1
    clock.seconds += 3600
    assert spend(budget) == 2


def test_calls_of_long_ago_pay_for_no_retry() -> None:
    budget = RetryBudget(POLICY, clock := ManualClock())
    for _ in range(1_000):
        budget.deposit()
    clock.seconds += 10
    assert spend(budget) == 2


def test_backoff_grows_to_its_ceiling_with_jitter_below() -> None:
    for attempt, ceiling in ((1, 0.25), (2, 0.5), (3, 1.0), (9, 4.0)):
        assert wait_seconds(POLICY, attempt, None, lambda: 0.0) == ceiling / 2
        assert wait_seconds(POLICY, attempt, None, lambda: 1.0) == ceiling


@pytest.mark.parametrize(("advised", "wait"), [(2.0, 2.1), (5.0, 5.25), (5.1, None), (1e9, None)])
def test_advice_is_kept_and_never_undercut_unless_it_is_too_long(
    advised: float, wait: float | None
) -> None:
    assert wait_seconds(POLICY, 1, advised, lambda: 0.5) == wait
