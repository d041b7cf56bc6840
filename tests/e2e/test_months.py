"""Months that end, and clocks that are wrong: the quick forms of S9 and T1 to T3."""

from __future__ import annotations

import asyncio

import pytest

from rigs.torture import clocks, rollover
from rigs.torture.servers import PLACES

SEED = 4600
CLOCK_CASES = [
    (name, kind) for name in clocks.CASES for kind in PLACES if (name, kind[0]) != ("T3", "s")
]


def report(text: str) -> None:
    print(text)  # noqa: T201 - shown where it fails


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", PLACES)
def test_month_that_ends_under_load_lets_exactly_its_calls_through(kind: str) -> None:
    work = rollover.roll_over(kind, size=rollover.QUICK, seed=SEED, report=report)
    assert asyncio.run(work).findings == []


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize(("name", "kind"), CLOCK_CASES)
def test_wallet_is_spent_exactly_whatever_the_clocks_say(name: str, kind: str) -> None:
    work = clocks.spend_by_wrong_clocks(name, kind, size=clocks.QUICK, report=report)
    assert asyncio.run(work).findings == []
