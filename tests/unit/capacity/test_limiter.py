"""Limits of capacity: what is counted where, when a call is refused, and with which words."""

from __future__ import annotations

import asyncio

import pytest
from msgspec.structs import replace

from headgate.capacity.service import Windows
from headgate.relay.capacity_limits import CapacityLimit
from tests.fakes.pipeline import CREDENTIAL
from tests.unit.capacity.counting import Counting, make_limited

ONE_A_MINUTE = CapacityLimit("minute", requests=1)
BODY = b'{"model":"gpt-5.4-mini","messages":[],"user":"' + b"x" * 350 + b'"}'
BODY_TOKENS = 100


@pytest.mark.parametrize(
    ("level", "subject"),
    [
        ("key", "This key may use"),
        ("resource", "The resource 'search' may use"),
        ("credential", "The credential 'main' may use"),
    ],
)
def test_refusal_names_level_limit_and_period(level: str, subject: str) -> None:
    counting = Counting()
    counting.admit(make_limited(**{level: [ONE_A_MINUTE]}))  # type: ignore[arg-type]
    error = counting.refuse(make_limited(**{level: [ONE_A_MINUTE]}))  # type: ignore[arg-type]
    assert (error.kind.value, error.code) == (429, "resource_exhausted")
    assert error.message == (
        f"{subject} 1 requests per minute, and 1 are used. Try again in 20 seconds."
    )
    assert error.retry_after_seconds == 20.0


@pytest.mark.parametrize(
    ("period", "rest_seconds"),
    [
        ("minute", 20),
        ("hour", 43 * 60 + 20),
        ("day", 15 * 3600 + 43 * 60 + 20),
        ("week", 2 * 86_400 + 15 * 3600 + 43 * 60 + 20),
        ("month", 16 * 86_400 + 15 * 3600 + 43 * 60 + 20),
    ],
)
def test_limit_holds_until_its_window_ends(period: str, rest_seconds: int) -> None:
    """The clock of tests stands at Friday, 2027-01-15 08:16:40 UTC."""
    counting, limit = Counting(), CapacityLimit(period, requests=1)
    counting.admit(make_limited(key=[limit]))
    error = counting.refuse(make_limited(key=[limit]))
    assert error.retry_after_seconds == rest_seconds
    assert error.should_retry is (None if period == "minute" else False)
    counting.clock.seconds += rest_seconds - 1
    counting.refuse(make_limited(key=[limit]))
    counting.clock.seconds += 1
    counting.admit(make_limited(key=[limit]))


def test_lifetime_never_resets_and_asks_for_no_retry() -> None:
    counting, limit = Counting(), CapacityLimit("lifetime", requests=1)
    counting.admit(make_limited(key=[limit]))
    counting.clock.seconds += 10 * 366 * 86_400
    error = counting.refuse(make_limited(key=[limit]))
    assert (error.retry_after_seconds, error.should_retry) == (None, False)
    assert "never resets" in error.message


def test_input_is_estimated_first_and_replaced_by_the_usage() -> None:
    counting = Counting()
    limits = [CapacityLimit("minute", tokens=250)]
    state = counting.admit(make_limited(key=limits, credential=limits, body=BODY))
    assert counting.count(state, "key") == (1, BODY_TOKENS)
    counting.settle(state, 140)
    assert counting.count(state, "key") == counting.count(state, "credential") == (1, 140)
    state = counting.admit(make_limited(key=limits, credential=limits, body=BODY))
    error = counting.refuse(make_limited(key=limits, credential=limits, body=BODY))
    assert "may use 250 tokens per minute, and 240 are used" in error.message
    assert "needs at least 100" in error.message
    # The answer used more than is left: the next call waits for the next window.
    counting.settle(state, 400)
    assert counting.count(state, "key") == (2, 540)
    assert counting.refuse(make_limited(key=limits, body=b"{}")).code == "resource_exhausted"


def test_call_that_can_never_fit_is_told_so() -> None:
    error = Counting().refuse(make_limited(key=[CapacityLimit("day", tokens=99)], body=BODY))
    assert "can never fit" in error.message


def test_refused_call_counts_nowhere() -> None:
    counting, open_limit = Counting(), CapacityLimit("minute", requests=5)
    limits = {"key": [open_limit], "credential": [ONE_A_MINUTE]}
    first = counting.admit(make_limited(**limits))  # type: ignore[arg-type]
    counting.refuse(make_limited(**limits))  # type: ignore[arg-type]
    assert counting.count(first, "key")[0] == 1


@pytest.mark.parametrize(
    ("used", "attempts", "outcome", "pricing", "of_key", "of_credential"),
    [
        (None, 0, "refused", "free", (0, 0), (0, 0)),
        (None, 0, "completed", "free", (1, 0), (0, 0)),
        (None, 1, "upstream_error", "free", (1, 0), (1, 0)),
        (None, 1, "unknown", "unpriced", (1, BODY_TOKENS), (1, BODY_TOKENS)),
        (30, 1, "broken", "priced", (1, 30), (1, 30)),
    ],
    ids=["refused later", "cached answer", "error of the provider", "unknown", "broken stream"],
)
def test_what_stays_counted_depends_on_the_end_of_the_call(
    used: int | None,
    attempts: int,
    outcome: str,
    pricing: str,
    of_key: tuple[int, int],
    of_credential: tuple[int, int],
) -> None:
    counting, limits = Counting(), [CapacityLimit("minute", requests=9, tokens=900)]
    state = counting.admit(make_limited(key=limits, credential=limits, body=BODY))
    counting.settle(state, used, attempts=attempts, outcome=outcome, pricing=pricing)
    assert counting.count(state, "key") == of_key
    assert counting.count(state, "credential") == of_credential
    counting.settle(state, 1_000)  # a second time counts nothing
    assert counting.count(state, "key") == of_key


def test_values_of_a_dimension_count_apart_and_missing_ones_together() -> None:
    counting = Counting()
    by_address = [CapacityLimit("minute", requests=1, dimension="source-ip")]
    counting.admit(make_limited(key=by_address, address="192.0.2.1"))
    counting.admit(make_limited(key=by_address, address="192.0.2.2"))
    error = counting.refuse(make_limited(key=by_address, address="192.0.2.1"))
    assert "for the client address 192.0.2.1" in error.message
    by_team = [CapacityLimit("minute", requests=1, dimension="metadata", dimension_field="team")]
    counting.admit(make_limited(key=by_team, metadata='{"team":"a"}'))
    counting.admit(make_limited(key=by_team, metadata='{"team":"b"}'))
    error = counting.refuse(make_limited(key=by_team, metadata='{"team":"a"}'))
    assert "for the team 'a' in the metadata" in error.message
    counting.admit(make_limited(key=by_team, metadata='{"other":"a"}'))
    assert "'unknown'" in counting.refuse(make_limited(key=by_team)).message
    in_body = b'{"model":"gpt-5.4-mini","messages":[],"metadata":{"team":"c"}}'
    counting.admit(make_limited(key=by_team, body=in_body))
    assert "'c'" in counting.refuse(make_limited(key=by_team, body=in_body)).message


def test_values_beyond_the_memory_share_one_window() -> None:
    counting = Counting(Windows(windows_max=3))
    limits = [CapacityLimit("minute", requests=2, dimension="source-ip")]
    for number in range(5):
        counting.admit(make_limited(key=limits, address=f"192.0.2.{number}"))
    error = counting.refuse(make_limited(key=limits, address="192.0.2.9"))
    assert "for the client address others" in error.message
    assert len(counting.windows) == 4
    counting.clock.seconds += 60
    counting.admit(make_limited(key=limits, address="192.0.2.9"))


def test_values_of_one_limit_leave_room_for_those_of_others() -> None:
    counting = Counting(Windows(windows_max=9, values_max=2))
    crowded = [CapacityLimit("minute", requests=2, dimension="source-ip")]
    for number in range(4):
        counting.admit(make_limited(key=crowded, address=f"192.0.2.{number}"))
    assert len(counting.windows) == 3
    other = [CapacityLimit("hour", requests=1, dimension="source-ip")]
    counting.admit(make_limited(key=other, address="192.0.2.1"))
    error = counting.refuse(make_limited(key=other, address="192.0.2.1"))
    assert "for the client address 192.0.2.1" in error.message


def test_announced_limits_are_used_where_they_are_asked_for() -> None:
    counting = Counting()
    limits = [CapacityLimit("minute", discovered=True)]
    counting.admit(make_limited(credential=limits))  # nothing is known yet
    counting.announced.limits["gpt-5.4-mini"] = (1, None)
    counting.admit(make_limited(credential=limits))
    error = counting.refuse(make_limited(credential=limits))
    assert "1 requests per minute for the model 'gpt-5.4-mini'" in error.message
    counting.admit(make_limited(credential=limits, body=b'{"model":"gpt-5.4","messages":[]}'))


def test_further_target_counts_its_credential_only() -> None:
    counting, limits = Counting(), [CapacityLimit("minute", requests=9, tokens=900)]
    state = counting.admit(make_limited(key=limits, credential=limits, body=BODY))
    counting.admit(state)  # the same target again
    assert counting.count(state, "credential") == (1, BODY_TOKENS)
    counting.limiter.leave(state, sent=True)
    assert counting.count(state, "credential") == (1, 0)
    state.credential = replace(CREDENTIAL, id="cred_2", capacity=(ONE_A_MINUTE,))
    counting.admit(state)
    assert counting.count(state, "key") == (1, BODY_TOKENS)
    counting.limiter.leave(state, sent=False)
    counting.admit(state)
    counting.settle(state, 7)
    assert counting.count(state, "key") == (1, 7)
    other = make_limited()
    other.credential = state.credential
    assert counting.refuse(other).code == "resource_exhausted"


def test_further_target_that_is_sent_nothing_counts_nothing() -> None:
    counting, limits = Counting(), [CapacityLimit("minute", requests=9, tokens=900)]
    state = counting.admit(make_limited(key=limits, credential=limits, body=BODY))
    state.failed_attempts = 1
    counting.limiter.leave(state, sent=True)
    state.credential = replace(CREDENTIAL, id="cred_2", capacity=(ONE_A_MINUTE,))
    counting.admit(state)
    counting.settle(state, None, attempts=0, outcome="refused", pricing="free")
    assert counting.count(state, "key") == (1, 0)
    other = make_limited()
    other.credential = state.credential
    counting.admit(other)


def test_calls_that_no_model_answers_are_not_counted() -> None:
    counting, limit = Counting(), CapacityLimit("minute", requests=0)
    state = counting.admit(make_limited(key=[limit], path="/models", method="GET", body=b""))
    assert state.capacity is None
    counting.refuse(make_limited(key=[limit]))


def test_exactly_the_limit_passes_of_many_at_once() -> None:
    counting, limit = Counting(), CapacityLimit("minute", requests=50)

    async def run() -> int:
        results = await asyncio.gather(
            *(counting.limiter.admit(make_limited(credential=[limit])) for _ in range(200)),
            return_exceptions=True,
        )
        return results.count(None)

    assert asyncio.run(run()) == 50
    assert counting.limiter.refusals == 150


def test_limits_of_one_period_count_once_and_the_least_holds() -> None:
    counting = Counting()
    limits = [CapacityLimit("minute", requests=5), CapacityLimit("minute", requests=2)]
    state = counting.admit(make_limited(key=limits))
    assert counting.count(state, "key") == (1, 10)
    usage = counting.limiter.find("key", "key_1", limits, "minute")
    assert usage is not None
    assert (usage.requests_limit, usage.remaining_requests) == (2, 1)
    assert (usage.requests_usage_percent, usage.tokens_usage_percent) == (50.0, 0.0)
    assert usage.remaining_seconds == 20.0
    assert counting.limiter.find("key", "key_1", limits, "day") is None
