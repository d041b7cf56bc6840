"""The rates of keys: requests that are spaced, and tokens from a bucket."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from headgate.kit.rate_limiter import RateLimit, RateLimitedError, RateLimiter
from tests.fakes.pipeline import GRANT, ManualClock

REQUESTS = replace(GRANT, requests_per_minute=60)
TOKENS = replace(GRANT, tokens_per_minute=600)


def refuse(limiter: RateLimiter, tokens: int = 1) -> RateLimitedError:
    with pytest.raises(RateLimitedError) as caught:
        limiter.take(TOKENS, tokens=tokens)
    return caught.value


def test_remaining_limits_are_returned_with_each_request() -> None:
    limiter = RateLimiter(clock := ManualClock())
    assert limiter.take(REQUESTS) == (RateLimit("requests", 60, 59, 1.0),)
    assert limiter.take(REQUESTS) == (RateLimit("requests", 60, 58, 2.0),)
    clock.seconds += 60
    assert limiter.take(REQUESTS) == (RateLimit("requests", 60, 59, 1.0),)


def test_minute_has_at_most_twice_the_rate_and_an_hour_at_most_the_rate() -> None:
    limiter = RateLimiter(clock := ManualClock())
    passed = 0
    for _ in range(7_200):
        clock.seconds += 0.5
        try:
            limiter.take(REQUESTS)
        except RateLimitedError:
            continue
        passed += 1
    assert 3_600 <= passed <= 3_660


def test_bucket_of_tokens_is_emptied_and_fills_up_evenly() -> None:
    limiter = RateLimiter(clock := ManualClock())
    assert limiter.take(TOKENS, tokens=500) == (RateLimit("tokens", 600, 100, 50.0),)
    limiter.take(TOKENS, tokens=500)
    refusal = refuse(limiter)
    assert refusal.retry_after_seconds == pytest.approx(40.1)
    assert refusal.rate_limits[0].remaining == 0
    clock.seconds += 40
    refuse(limiter)
    clock.seconds += 0.2
    limiter.take(TOKENS, tokens=1)


def test_refused_call_takes_nothing_from_either() -> None:
    both = replace(TOKENS, requests_per_minute=2)
    limiter = RateLimiter(ManualClock())
    limiter.take(both, tokens=600)
    before = [str(rate) for rate in refuse_both(limiter, both)]
    assert [str(rate) for rate in refuse_both(limiter, both)] == before
    limiter.settle(both, reserved=600, used=0)
    assert limiter.take(both, tokens=10)[0].remaining == 0


def refuse_both(limiter: RateLimiter, both: object) -> tuple[RateLimit, ...]:
    with pytest.raises(RateLimitedError) as caught:
        limiter.take(both, tokens=10)  # type: ignore[arg-type]
    return caught.value.rate_limits


def test_settlement_replaces_the_estimate_by_the_usage() -> None:
    limiter = RateLimiter(ManualClock())
    limiter.take(TOKENS, tokens=600)
    refuse(limiter)
    limiter.settle(TOKENS, reserved=600, used=50)
    assert limiter.take(TOKENS, tokens=50)[0].remaining == 500


def test_key_in_debt_waits_until_it_is_paid() -> None:
    limiter = RateLimiter(clock := ManualClock())
    limiter.take(TOKENS, tokens=10)
    limiter.settle(TOKENS, reserved=10, used=1_800)
    assert refuse(limiter).retry_after_seconds == pytest.approx(120.1)
    clock.seconds += 121
    limiter.take(TOKENS, tokens=10)


def test_burst_passes_for_a_minutes_worth_and_one_call_more() -> None:
    limiter = RateLimiter(ManualClock())
    passed = 0
    for _ in range(1_000):
        try:
            limiter.take(TOKENS, tokens=70)
        except RateLimitedError:
            continue
        passed += 1
    assert passed == 9


def test_call_without_tokens_ignores_the_token_limit() -> None:
    limiter = RateLimiter(ManualClock())
    limiter.take(TOKENS, tokens=600)
    refuse(limiter)
    assert limiter.take(TOKENS) == ()


class BrokenClock(ManualClock):
    def monotonic(self) -> float:
        raise RuntimeError("no time")


def test_faulty_limiter_lets_calls_pass() -> None:
    assert RateLimiter(BrokenClock()).take(TOKENS, tokens=1) == ()
