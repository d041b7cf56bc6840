"""The limit on concurrent calls, and its fair share between keys."""

from __future__ import annotations

import asyncio
import contextlib
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.relay.concurrency import (
    CALLS_PER_KEY_MIN,
    SAMPLE_SECONDS,
    SHARE,
    ConcurrencyLimiter,
    ConcurrencyLimitError,
    TooManyConcurrentCallsError,
)

LATE = 0.2


def fill(concurrency: ConcurrencyLimiter, key: str, wanted: int = 1_000_000) -> int:
    """Start calls of a key until one is rejected; return how many were admitted."""
    for taken in range(wanted):
        try:
            concurrency.acquire(key)
        except (ConcurrencyLimitError, TooManyConcurrentCallsError):
            return taken
    return wanted


def report_lag(concurrency: ConcurrencyLimiter, samples: int) -> None:
    for _ in range(samples):
        concurrency.adjust(LATE, 1.0)


def make_limiter(calls_max: int = 1000) -> ConcurrencyLimiter:
    return ConcurrencyLimiter(calls_max, lag_seconds_max=0.05)


def test_key_that_floods_leaves_places_for_others() -> None:
    concurrency = make_limiter()
    assert fill(concurrency, "flood") == 800
    assert fill(concurrency, "small", 50) == 50


def test_many_flooding_keys_share_equally_and_leave_places() -> None:
    concurrency = make_limiter()
    for _ in range(1000):
        for flood in range(5):
            fill(concurrency, f"flood{flood}", 1)
    assert {concurrency.running // 5} == {190}
    assert fill(concurrency, "small", 30) == 30


def test_few_places_are_all_used_by_one_key() -> None:
    concurrency = make_limiter(4)
    assert fill(concurrency, "only") == 4
    with pytest.raises(ConcurrencyLimitError) as refused:
        concurrency.acquire("other")
    assert refused.value.retry_after_seconds == 1.0


def test_refusal_tells_a_key_what_it_has_and_what_is_left() -> None:
    concurrency = make_limiter()
    fill(concurrency, "flood")
    with pytest.raises(
        TooManyConcurrentCallsError, match=r"800 calls running, and only 200 more"
    ) as refused:
        concurrency.acquire("flood")
    assert refused.value.retry_after_seconds == 1.0


def test_place_given_back_is_free_again() -> None:
    concurrency = make_limiter(1)
    for _ in range(3):
        concurrency.acquire("key")
        concurrency.release("key")
    assert concurrency.running == 0


def test_loop_late_by_its_own_work_limits_the_busiest_key() -> None:
    concurrency = make_limiter()
    fill(concurrency, "flood", 400)
    fill(concurrency, "small", 2)
    report_lag(concurrency, 4)
    assert concurrency.calls_per_key_max < 400
    with pytest.raises(ConcurrencyLimitError):
        concurrency.acquire("flood")
    concurrency.acquire("small")


def test_level_recovers_once_the_loop_is_in_time() -> None:
    concurrency = make_limiter()
    fill(concurrency, "flood", 400)
    report_lag(concurrency, 100)
    assert concurrency.calls_per_key_max == CALLS_PER_KEY_MIN
    for _ in range(60):
        concurrency.adjust(0.0, 0.5)
    assert concurrency.calls_per_key_max == 1000


@pytest.mark.parametrize(("lag_seconds", "busy_share"), [(0.04, 1.0), (5.0, 0.3)])
def test_loop_in_time_or_starved_by_other_programs_refuses_nobody(
    lag_seconds: float, busy_share: float
) -> None:
    concurrency = make_limiter()
    fill(concurrency, "key", 500)
    for _ in range(10):
        concurrency.adjust(lag_seconds, busy_share)
    assert concurrency.calls_per_key_max == 1000


def test_single_late_sample_refuses_nobody() -> None:
    concurrency = make_limiter()
    fill(concurrency, "key", 500)
    for _ in range(10):
        report_lag(concurrency, 1)
        concurrency.adjust(0.0, 1.0)
    assert concurrency.calls_per_key_max == 1000


class Recorded(ConcurrencyLimiter):
    """Record what is measured."""

    def __init__(self) -> None:
        super().__init__(10, lag_seconds_max=1.0)
        self.samples: list[tuple[float, float]] = []

    def adjust(self, lag_seconds: float, busy_share: float) -> None:
        self.samples.append((lag_seconds, busy_share))


async def keep_the_loop(concurrency: ConcurrencyLimiter, work_seconds: float) -> None:
    watch = asyncio.create_task(concurrency.watch())
    await asyncio.sleep(0)
    until = time.thread_time() + work_seconds
    while time.thread_time() < until:
        pass
    await asyncio.sleep(SAMPLE_SECONDS)
    watch.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await watch


def test_watch_measures_work_that_keeps_the_loop() -> None:
    concurrency = Recorded()
    asyncio.run(keep_the_loop(concurrency, 4 * SAMPLE_SECONDS))
    lag_seconds, busy_share = concurrency.samples[0]
    elapsed = lag_seconds + SAMPLE_SECONDS
    assert elapsed >= 4 * SAMPLE_SECONDS
    assert busy_share * elapsed >= 4 * SAMPLE_SECONDS


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 5)), max_size=300), st.integers(1, 40))
def test_running_calls_are_always_counted_exactly(
    steps: list[tuple[bool, int]], calls_max: int
) -> None:
    concurrency = make_limiter(calls_max)
    inside = [0] * 6
    for enters, key in steps:
        if not enters:
            if inside[key]:
                concurrency.release(str(key))
                inside[key] -= 1
            continue
        may = inside[key] < SHARE * (calls_max - sum(inside))
        assert fill(concurrency, str(key), 1) == may
        inside[key] += may
        assert concurrency.running == sum(inside) <= calls_max
