"""A killed server loses no answer and bills none twice: the quick form of `make torture`."""

from __future__ import annotations

import asyncio

import pytest

from rigs.torture import kills

SEED = 4600


def report(text: str) -> None:
    print(text)  # noqa: T201 - shown where it fails


@pytest.mark.prove
@pytest.mark.timeout(180)
def test_server_killed_at_any_moment_loses_no_whole_answer_and_bills_none_twice() -> None:
    result = asyncio.run(
        kills.kill_at_random(
            kills=8, clients=16, seed=SEED, report=report, wait_seconds=(0.05, 0.6)
        )
    )
    assert result.findings == []
    assert result.n > 30, "calls were in flight when it died"


@pytest.mark.timeout(120)
@pytest.mark.parametrize(
    "point", ["mid_settlement", pytest.param("before_last_frame", marks=pytest.mark.prove)]
)
def test_server_killed_at_its_failpoints_keeps_its_ledger_right(point: str) -> None:
    result = asyncio.run(
        kills.kill_at_points(times=1, clients=8, seed=SEED, report=report, points=(point,))
    )
    assert result.findings == []


@pytest.mark.parametrize(
    "point",
    [
        kills.START_POINTS[0],
        *(pytest.param(each, marks=pytest.mark.prove) for each in kills.START_POINTS[1:]),
    ],
)
def test_first_start_that_dies_leaves_nothing_in_the_way_of_the_next(point: str) -> None:
    assert kills.start_over(point) == []
