"""Calls are shared out among the credentials of a target, and those that fail are left out."""

from __future__ import annotations

import random
from collections import Counter

from headgate.relay.balancing import Balancer
from headgate.relay.targets import Target
from tests.fakes.pipeline import ManualClock

TARGET = Target("gpt", credentials=(("a", 3), ("b", 1)))
A, B = (Target("gpt", credential_name=name) for name in "ab")


def make_balancer() -> tuple[Balancer, ManualClock]:
    clock = ManualClock()
    return Balancer(clock, draw=random.Random(7).random), clock


def first(balancer: Balancer, key: str | None = None) -> str | None:
    return balancer.spread("org", [TARGET], key)[0].target.credential_name


def test_calls_are_shared_by_weight() -> None:
    balancer, _ = make_balancer()
    for keys in (None, "conversation"):
        counts = Counter(
            first(balancer, None if keys is None else f"{keys} {number}") for number in range(2_000)
        )
        assert 1_420 <= counts["a"] <= 1_580


def test_a_conversation_stays_with_its_credential() -> None:
    balancer, _ = make_balancer()
    assert len({first(balancer, "c1") for _ in range(20)}) == 1


def test_each_credential_is_one_attempt_and_the_targets_keep_their_order() -> None:
    balancer, _ = make_balancer()
    attempts = balancer.spread("org", [TARGET, Target("other")], "c1")
    assert [each.slot for each in attempts] == [0, 0, 1]
    assert {each.target.credential_name for each in attempts[:2]} == {"a", "b"}
    assert all(not each.target.credentials for each in attempts)


def test_a_credential_that_fails_in_a_row_is_ejected_and_comes_back() -> None:
    balancer, clock = make_balancer()
    for _ in range(5):
        assert balancer.ejected == 0
        balancer.fail("org", A, status=500)
    assert (balancer.ejected, balancer.ejections) == (1, 1)
    assert {first(balancer) for _ in range(50)} == {"b"}
    assert first(Balancer(clock, draw=random.Random(1).random)) is not None
    clock.seconds += 30
    assert {first(balancer) for _ in range(50)} == {"a", "b"}
    for _ in range(5):
        balancer.fail("org", A, status=503)
    assert balancer.find_rest("org", "a", "gpt") == 60


def test_a_success_between_failures_keeps_a_credential() -> None:
    balancer, _ = make_balancer()
    for _ in range(8):
        balancer.fail("org", A, status=500)
        balancer.succeed("org", A)
    assert balancer.ejected == 0


def test_a_credential_of_which_half_the_calls_fail_is_ejected() -> None:
    balancer, _ = make_balancer()
    for _ in range(10):
        balancer.fail("org", A, status=500)
        balancer.succeed("org", A)
    balancer.fail("org", A, status=500)
    assert balancer.ejected == 1


def test_the_faults_of_a_request_eject_nothing() -> None:
    balancer, _ = make_balancer()
    for status in (400, 404, 413, 422) * 5:
        balancer.fail("org", A, status=status)
    balancer.fail("org", TARGET, status=500)
    assert (balancer.ejected, first(balancer)) == (0, "a")


def test_a_rate_limited_credential_rests_as_long_as_it_asks() -> None:
    balancer, clock = make_balancer()
    balancer.fail("org", A, status=429, wait_seconds=12)
    assert {first(balancer) for _ in range(50)} == {"b"}
    clock.seconds += 12
    assert "a" in {first(balancer) for _ in range(50)}
    balancer.fail("org", A, status=429)
    assert balancer.find_rest("org", "a", "gpt") == 4
    assert balancer.ejections == 0


def test_of_credentials_that_are_all_ejected_the_next_to_return_is_tried_first() -> None:
    balancer, clock = make_balancer()
    for target in (A, B):
        for _ in range(5):
            balancer.fail("org", target, status=500)
        clock.seconds += 1
    attempts = balancer.spread("org", [TARGET], None)
    assert [each.target.credential_name for each in attempts] == ["a", "b"]


def test_what_fails_for_one_organization_or_model_is_not_left_out_for_others() -> None:
    balancer, _ = make_balancer()
    for _ in range(5):
        balancer.fail("other", A, status=500)
        balancer.fail("org", Target("gpt-mini", credential_name="a"), status=500)
    assert balancer.find_rest("org", "a", "gpt") == 0
    assert balancer.ejected == 2
