"""The budget of a model call in calls of Python and C functions, which no load can change."""

from __future__ import annotations

import sys
from collections import Counter

import pytest

from bench import calls
from bench.calls import Profile

RECORDED_WITH = "3.11"
SCENARIOS = ("small", "large", "managed", "stream", "event", "burst", "observers")


@pytest.fixture(scope="module")
def counted() -> dict[str, Profile]:
    return calls.count()


@pytest.mark.skipif(calls.PYTHON != RECORDED_WITH, reason="every Python makes calls of its own")
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_call_stays_within_its_budget(counted: dict[str, Profile], scenario: str) -> None:
    recorded = calls.read_record(scenario)
    assert calls.is_within_budget(recorded, counted[scenario]), (
        f"{calls.describe_growth(scenario, recorded, counted[scenario])}\n"
        "Put the work on a rarer path, or before the first call. What has to stay is recorded by "
        "`python -m bench.calls --record`, with its reason in the commit."
    )


def test_every_scenario_is_counted(counted: dict[str, Profile]) -> None:
    assert tuple(counted) == SCENARIOS
    assert counted["event"].total() < counted["burst"].total() < counted["stream"].total()


def test_growth_beyond_the_margin_fails_and_its_functions_are_named() -> None:
    recorded = Counter({"read": 90, "write": 10})
    assert calls.is_within_budget(recorded, Counter({"read": 95, "write": 10}))
    grown = Counter({"read": 90, "write": 7, "check": 9})
    assert not calls.is_within_budget(recorded, grown)
    assert calls.describe_growth("small", recorded, grown).splitlines() == [
        "small: 106 calls, 100 are recorded",
        "  +9 check",
        "  -3 write",
    ]


def test_functions_of_python_and_of_c_are_counted_and_none_afterwards() -> None:
    with calls.Counting() as profile:
        sorted([3, 1])
    sorted([3, 1])
    assert sys.getprofile() is None
    assert profile == {"builtins.sorted": 1}
