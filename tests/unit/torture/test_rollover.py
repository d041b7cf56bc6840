"""Every verdict about months and clocks has a case in which it fails."""

from __future__ import annotations

import sqlite3
from collections import Counter
from types import SimpleNamespace
from typing import Any, cast

import msgspec
import pytest

from rigs.torture.clocks import judge_times
from rigs.torture.oracle import Read
from rigs.torture.rollover import Months, Size, judge_months, judge_thresholds

SIZE = Size(rollovers=2, calls=10)


def make_months(granted: dict[str, int], exhausted: list[str]) -> Months:
    return cast("Months", SimpleNamespace(granted=Counter(granted), exhausted=exhausted))


def test_months_that_let_their_calls_through_have_no_findings() -> None:
    months = make_months({"2026-11": 10, "2026-12": 5}, ["2026-11"])
    assert judge_months(months, SIZE) == []


@pytest.mark.parametrize(
    ("granted", "exhausted"), [({"2026-11": 11}, []), ({"2026-11": 9}, ["2026-11"])]
)
def test_month_that_lets_too_many_or_too_few_through_is_found(
    granted: dict[str, int], exhausted: list[str]
) -> None:
    (found,) = judge_months(make_months(granted, exhausted), SIZE)
    assert found.verdict == "L9"


def read_events(*thresholds: tuple[str, int]) -> Read:
    rows: list[tuple[Any, ...]] = [
        (msgspec.json.encode({"month": "2026-11", "scope": scope, "threshold": percent}),)
        for scope, percent in thresholds
    ]

    def read(_query: str) -> list[tuple[Any, ...]]:
        return rows

    return read


def test_threshold_that_is_announced_twice_or_not_at_all_is_found() -> None:
    every = [(scope, n) for scope in ("project", "organization") for n in (50, 80, 100)]
    assert judge_thresholds(read_events(*every), ["2026-11"]) == []
    twice = judge_thresholds(read_events(*every, every[0]), ["2026-11"])
    missing = judge_thresholds(read_events(*every[1:]), ["2026-11"])
    assert [each.verdict for each in (*twice, *missing)] == ["L8", "L8"]
    assert judge_thresholds(read_events(), []) == []


def test_lease_that_ends_too_early_and_a_duration_that_cannot_be_are_found() -> None:
    connection = sqlite3.connect(":memory:")
    connection.execute(
        "CREATE TABLE receipts (request_id TEXT, outcome TEXT, total_microseconds INT, "
        "upstream_microseconds INT, overhead_microseconds INT)"
    )

    def read(query: str) -> list[tuple[Any, ...]]:
        return connection.execute(query).fetchall()

    connection.execute("INSERT INTO receipts VALUES ('req_1', 'completed', 5, -1, 3)")
    assert judge_times(read) == []
    connection.execute("INSERT INTO receipts VALUES ('req_2', 'unknown', -5, -1, 3)")
    assert [each.verdict for each in judge_times(read)] == ["L6", "T1"]
    connection.close()
