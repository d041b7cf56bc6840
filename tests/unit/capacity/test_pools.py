"""Priority pools: how pools share the tokens of a credential, and what contradicts itself."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from headgate.capacity.model.pools import (
    InvalidPoolsError,
    PoolAllocator,
    PoolMembers,
    PriorityPool,
    check_pools,
)
from headgate.relay.call_state import CallState
from headgate.relay.capacity_limits import CapacityLimit
from tests.unit.capacity.counting import Counting, make_limited

HIGH = PriorityPool(name="chat", rank=0, min_reservation=50, max_reservation=100, keys=("key_1",))
LOW = PriorityPool(name="batch", rank=1, min_reservation=0, max_reservation=50, keys=("key_2",))
LIMIT = CapacityLimit("minute", tokens=1_000)


def make_call_of(key_id: str, tokens: int, limit: CapacityLimit = LIMIT) -> CallState:
    body = b'{"model":"gpt-5.4-mini","user":"' + b"x" * (4 * tokens - 34) + b'"}'
    return make_limited(credential=[limit], key_id=key_id, body=body)


@pytest.fixture
def counting() -> Counting:
    counting = Counting()
    counting.pools.define(HIGH, LOW)
    # The begin of a minute, so that the credential's own window does not end in the middle.
    counting.clock.seconds += 20
    return counting


def test_low_pool_yields_to_the_load_of_a_high_one_and_recovers(counting: Counting) -> None:
    for _ in range(4):
        counting.admit(make_call_of("key_2", 100))
    error = counting.refuse(make_call_of("key_2", 101))
    assert (error.kind.value, error.code) == (429, "prioritization_gate_denied")
    assert "The priority pool 'batch' has 50 percent of the credential 'main'" in error.message
    counting.clock.seconds += 1
    counting.admit(make_call_of("key_1", 500))
    error = counting.refuse(make_call_of("key_2", 10))
    assert error.code == "prioritization_gate_denied"
    assert error.retry_after_seconds is not None
    assert 0 < error.retry_after_seconds <= 61
    # The next minute: the tokens of the high pool are out of its window, and its share shrinks.
    counting.clock.seconds += 70
    counting.admit(make_call_of("key_2", 100))
    counting.admit(make_call_of("key_1", 400))


def test_high_pool_grows_over_its_least_reservation(counting: Counting) -> None:
    for _ in range(9):
        counting.admit(make_call_of("key_1", 100))
    assert counting.refuse(make_call_of("key_1", 101)).code == "resource_exhausted"


def test_refused_call_takes_nothing_of_its_pool(counting: Counting) -> None:
    counting.admit(make_call_of("key_2", 400))
    state = make_limited(
        key=[CapacityLimit("minute", requests=0)], credential=[LIMIT], key_id="key_2"
    )
    assert counting.refuse(state).code == "resource_exhausted"
    counting.admit(make_call_of("key_2", 100))
    assert counting.refuse(make_call_of("key_2", 10)).code == "prioritization_gate_denied"


def test_pool_counts_what_a_call_used(counting: Counting) -> None:
    state = counting.admit(make_call_of("key_2", 400))
    counting.settle(state, 0)
    state = counting.admit(make_call_of("key_2", 100))
    counting.settle(state, 500)
    assert counting.refuse(make_call_of("key_2", 10)).code == "prioritization_gate_denied"


def test_pools_share_what_the_provider_announced(counting: Counting) -> None:
    counting.announced.limits["gpt-5.4-mini"] = (None, 200)
    limit = CapacityLimit("minute", requests=99)
    counting.admit(make_call_of("key_2", 100, limit))
    assert counting.refuse(make_call_of("key_2", 10, limit)).code == "prioritization_gate_denied"


def test_calls_of_no_pool_and_credentials_without_a_limit_are_free(counting: Counting) -> None:
    counting.admit(make_call_of("key_3", 900))
    limit = CapacityLimit("minute", requests=99)
    counting.admit(make_call_of("key_2", 9_000, limit))


def test_resource_decides_before_the_key() -> None:
    counting = Counting()
    by_resource = PriorityPool(name="search", rank=0, max_reservation=10, resources=("res_1",))
    counting.pools.define(by_resource, LOW)
    state = make_limited(
        resource=[CapacityLimit("minute", requests=9)],
        credential=[LIMIT],
        key_id="key_2",
        body=b'{"model":"gpt-5.4-mini","user":"' + b"x" * 500 + b'"}',
    )
    assert "'search'" in counting.refuse(state).message


@pytest.mark.parametrize(
    ("change", "param"),
    [
        ({"name": "chat"}, "pools.1.name"),
        ({"rank": 0}, "pools.1.rank"),
        ({"min_reservation": 51.0}, "pools.1.min_reservation"),
        ({"min_reservation": 51.0, "max_reservation": 60.0}, "pools"),
        ({"keys": ("key_1",)}, "pools.1.keys"),
    ],
)
def test_pools_that_contradict_each_other_are_refused(change: dict[str, Any], param: str) -> None:
    fields = {name: getattr(LOW, name) for name in LOW.__struct_fields__} | change
    with pytest.raises(InvalidPoolsError) as caught:
        check_pools([HIGH, PriorityPool(**fields)])
    assert caught.value.param == param


@given(st.lists(st.tuples(st.integers(0, 2), st.integers(0, 900), st.floats(0, 40)), max_size=60))
def test_shares_stay_within_reservations_and_add_up(steps: list[tuple[int, int, float]]) -> None:
    middle = PriorityPool(name="agents", rank=5, min_reservation=20, max_reservation=70)
    pools = (LOW, HIGH, middle)
    allocator, now = PoolAllocator(pools), 1_000.0
    for index, tokens, seconds in steps:
        now += seconds
        if allocator.check(index, tokens, 1_000, now) is None:
            allocator.add(index, tokens, now)
            use = allocator.uses[index]
            assert use.count(now) <= 1_000 * use.share / 100
        assert sum(use.share for use in allocator.uses) <= 100 + 1e-6
        for pool, use in zip(pools, allocator.uses, strict=True):
            assert pool.min_reservation - 1e-6 <= use.share <= pool.max_reservation + 1e-6


def test_pool_of_a_resource_comes_before_that_of_the_key() -> None:
    members = PoolMembers(
        (
            PriorityPool(name="first", rank=0, resources=("res_1",), keys=("key_1",)),
            PriorityPool(name="second", rank=1, resources=("search", "res_1"), keys=("key_2",)),
        )
    )
    assert members.find(key_id="key_1", resource=("res_9", "search")) == 1
    assert members.find(key_id="key_2", resource=("res_1", "search")) == 0
    assert members.find(key_id="key_2", resource=()) == 1
    assert members.find(key_id="key_3", resource=("res_9",)) is None
