"""The rig of usage in its quick form: one day of 300,000 calls."""

from __future__ import annotations

import pytest

from rigs.usage.__main__ import QUERIES, check_total, open_place, run_query
from rigs.usage.workload import fill


@pytest.mark.prove
@pytest.mark.parametrize("place", ["sqlite", "postgresql"])
def test_sums_of_a_day_equal_its_receipts_and_answer_queries(place: str) -> None:
    with open_place(place) as database:
        count = fill(database, days=1, note=lambda _: None)
        check_total(database, 1, count)
        for query in QUERIES.values():
            _, _, size = run_query(database, query, 1)
            assert size > 100
