"""Limits of capacity as they are written on the command line."""

from __future__ import annotations

import pytest

from headgate.cli.capacity_limits import InvalidCapacityError, describe_limits, parse_limits
from headgate.relay.capacity_limits import CapacityEntry

WRITTEN = [
    "50 requests/minute",
    "2000000 tokens/day by source-ip",
    "10 requests/hour by metadata.team",
    "1000 requests/lifetime",
    "discovered",
]


def test_limits_are_read_as_they_are_written() -> None:
    entries = parse_limits(WRITTEN)
    assert entries[1:3] == [
        CapacityEntry(period="day", tokens=2_000_000, dimension="source-ip"),
        CapacityEntry(period="hour", requests=10, dimension="metadata", dimension_field="team"),
    ]
    assert describe_limits(entries) == WRITTEN
    off = CapacityEntry(period="week", requests=1, tokens=2, enabled=False)
    assert describe_limits([off]) == ["1 requests/week (off)", "2 tokens/week (off)"]


@pytest.mark.parametrize(
    "text",
    ["", "50", "50 requests", "50 calls/minute", "5 requests/year", "-5 requests/day", "x by y"],
)
def test_what_is_no_limit_is_refused_with_examples(text: str) -> None:
    with pytest.raises(InvalidCapacityError, match="write for example '50 requests/minute'"):
        parse_limits([text])
