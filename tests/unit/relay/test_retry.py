from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.kit.http.message import Origin
from headgate.relay.retry import RetryBudget, RetryBudgets, RetryPolicy, wait_seconds
from tests.fakes.pipeline import ManualClock

POLICY = RetryPolicy(budget_ratio=0.2, budget_floor_per_second=2, wait_max_seconds=5)


def spend(budget: RetryBudget) -> int:
    spent = 0
    while budget.withdraw():
        spent += 1
    return spent


@pytest.mark.parametrize(("calls", "retries"), [(51, 10), (10, 2), (0, 2)])
def test_budget_is_a_share_of_the_calls_or_the_floor_whichever_is_more(
    calls: int, retries: int
) -> None:
    budget = RetryBudget(POLICY, ManualClock())
    for _ in range(calls):
        budget.deposit()
    assert spend(budget) == retries


@pytest.mark.parametrize(("floor", "retries"), [(0.5, 31), (0.125, 8), (0.0, 0)])
def test_floor_below_one_a_second_allows_occasional_retries(floor: float, retries: int) -> None:
    """Seconds pass one by one for a minute, and as many retries as may be are made."""
    budget = RetryBudget(
        RetryPolicy(budget_ratio=0, budget_floor_per_second=floor), clock := ManualClock()
    )
    made = spend(budget)
    for _ in range(60):
        clock.seconds += 1
        made += spend(budget)
    assert made == retries


@given(
    floor=st.sampled_from([0.0, 0.5, 2.0, 10.0]),
    steps=st.lists(st.tuples(st.floats(0, 2), st.integers(0, 40)), max_size=60),
)
def test_retries_never_exceed_the_share_and_the_floor(
    floor: float, steps: list[tuple[float, int]]
) -> None:
    policy = RetryPolicy(budget_ratio=0.2, budget_floor_per_second=floor)
    budget = RetryBudget(policy, clock := ManualClock())
    started, calls, retries = clock.seconds, 0, 0
    for seconds, arrivals in steps:
        clock.seconds += seconds
        for _ in range(arrivals):
            budget.deposit()
            calls += 1
            retries += budget.withdraw()
    burst = max(1.0, floor) if floor else 0.0
    assert retries <= 0.2 * calls + floor * (clock.seconds - started) + burst + 1e-6


def test_minute_of_failures_at_a_hundred_a_second_costs_a_fifth_more() -> None:
    budget = RetryBudget(RetryPolicy(), clock := ManualClock())
    retries = 0
    for _ in range(6_000):
        clock.seconds += 0.01
        budget.deposit()
        retries += budget.withdraw() + budget.withdraw()
    assert 0.15 * 6_000 < retries <= 0.2 * 6_000 + RetryPolicy().budget_floor_per_second


def test_number_of_retry_budgets_is_bounded() -> None:
    budgets = RetryBudgets(POLICY, clock := ManualClock())
    spent = budgets.find(Origin("https", "busy.test", 443))
    assert spend(spent) == 2
    for number in range(3 * RetryBudgets.KEPT_MAX):
        clock.seconds += 0.001
        budgets.find(Origin("https", f"{number}.test", 443))
        assert len(budgets) <= RetryBudgets.KEPT_MAX
    clock.seconds += RetryBudget.WINDOW_SECONDS
    kept = budgets.find(Origin("https", "busy.test", 443))
    for number in range(RetryBudgets.KEPT_MAX):
        kept.deposit()
        budgets.find(Origin("https", f"{number}.other.test", 443))
    assert spend(kept) >= 2


def test_idle_budget_equals_a_new_one() -> None:
    budget = RetryBudget(POLICY, clock := ManualClock())
    spend(budget)
    assert not budget.is_idle(clock.seconds + 9)
    assert budget.is_idle(clock.seconds + 10)
    clock.seconds += 10
    assert spend(budget) == spend(RetryBudget(POLICY, clock)) == 2


def test_floor_comes_back_with_time_but_does_not_pile_up() -> None:
    budget = RetryBudget(POLICY, clock := ManualClock())
    assert spend(budget) == 2
    clock.seconds += 0.5
    assert spend(budget) == 1
    clock.seconds += 3600
    assert spend(budget) == 2


def test_old_calls_earn_no_retry() -> None:
    budget = RetryBudget(POLICY, clock := ManualClock())
    for _ in range(1_000):
        budget.deposit()
    clock.seconds += 10
    assert spend(budget) == 2


def test_backoff_grows_to_its_ceiling_with_full_jitter() -> None:
    for attempt, ceiling in ((1, 1.0), (2, 2.0), (3, 4.0), (9, 4.0)):
        assert wait_seconds(POLICY, attempt, None, lambda: 0.0) == 0
        assert wait_seconds(POLICY, attempt, None, lambda: 1.0) == ceiling


@pytest.mark.parametrize(("advised", "wait"), [(2.0, 2.5), (5.0, 5.5), (5.1, None), (1e9, None)])
def test_advised_wait_is_the_minimum_unless_too_long(advised: float, wait: float | None) -> None:
    assert wait_seconds(POLICY, 1, advised, lambda: 0.5) == wait


@pytest.mark.parametrize("advised", [None, 0.1, 1.0, 5.0])
@pytest.mark.parametrize("attempt", [1, 2])
def test_no_tenth_of_a_second_holds_a_fifth_of_the_retries(
    attempt: int, advised: float | None
) -> None:
    draw = random.Random(3).random
    waits = [wait_seconds(POLICY, attempt, advised, draw) or 0.0 for _ in range(10_000)]
    bins = Counter(int(wait * 10) for wait in waits)
    assert max(bins.values()) <= 0.2 * len(waits)
    assert min(waits) >= (advised or 0.0)
