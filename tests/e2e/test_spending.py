"""Many workers spend one wallet at once: the quick form of the S parts of `make torture`."""

from __future__ import annotations

import asyncio

import pytest

from rigs.torture import mixed, spending
from rigs.torture.servers import PLACES

SEED = 4600


def report(text: str) -> None:
    print(text)  # noqa: T201 - shown where it fails


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize("limits", [("wallet",), ("key",), ("project",), spending.LIMITS])
@pytest.mark.parametrize("kind", PLACES)
def test_limit_lets_through_exactly_the_calls_that_it_covers_however_many_are_attempted(
    kind: str, limits: tuple[str, ...]
) -> None:
    result = asyncio.run(spending.spend_exactly(kind, limits, size=spending.QUICK, report=report))
    assert result.findings == []


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", PLACES)
def test_only_the_tightest_of_four_limits_refuses(kind: str) -> None:
    work = mixed.spend_tightest(kind, size=mixed.QUICK.s2, seed=SEED, report=report)
    assert asyncio.run(work).findings == []


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", PLACES)
def test_calls_that_fail_or_cost_less_leave_nothing_held_and_no_false_refusal(kind: str) -> None:
    work = mixed.spend_with_failures(kind, size=mixed.QUICK.s3, seed=SEED, report=report)
    assert asyncio.run(work).findings == []


@pytest.mark.prove
@pytest.mark.timeout(120)
def test_no_call_is_refused_below_its_limits() -> None:
    work = mixed.refuse_nobody("sqlite", attempts=mixed.QUICK.s5, seed=SEED, report=report)
    assert asyncio.run(work).findings == []


@pytest.mark.prove
@pytest.mark.timeout(120)
@pytest.mark.parametrize("kind", PLACES)
def test_usage_above_holds_is_billed_and_exceeds_limits_by_no_more_than_what_runs(
    kind: str,
) -> None:
    work = mixed.spend_above_holds(kind, size=mixed.QUICK.s7, report=report)
    assert asyncio.run(work).findings == []
