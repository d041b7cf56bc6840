from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from msgspec.structs import replace

from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.ids import first_id
from headgate.metering import store as metering
from headgate.metering.jobs import Latencies
from headgate.metering.model import Latency, summarize
from tests.unit.metering.test_store import FULL

NOW = 1_800_000_000.0
MINI = "gpt-5.4-mini"


class Measured:
    """Hold receipts in a database, and the latencies measured from them."""

    def __init__(self, path: Path | str) -> None:
        self.latencies = Latencies()
        self.database = Database(path)
        METADATA.create_all(self.database.engine)
        self._count = 0

    def add(
        self,
        at: float,
        *,
        first_byte_ms: int = 100,
        whole_ms: int = 900,
        streamed: bool = False,
        **more: Any,
    ) -> None:
        self._count += 1
        fields = {
            "request_id": f"{first_id('req', at)}{self._count:020x}",
            "created_at": at,
            "credential_id": "cred_1",
            "model_requested": MINI,
            "outcome": "completed",
            **more,
        }
        times = {
            "first_byte_microseconds": first_byte_ms * 1000,
            "upstream_microseconds": whole_ms * 1000,
        }
        receipt = replace(FULL, streamed=streamed, **times, **fields)
        with self.database.transaction() as connection:
            metering.insert(connection, [receipt])

    def look(self, at: float = NOW) -> Latency | None:
        with self.database.reading() as connection:
            self.latencies.reload(connection, at)
        return self.latencies.find("cred_1", MINI)


@pytest.fixture
def measured(tmp_path: Path) -> Iterator[Measured]:
    measured = Measured(tmp_path / "headgate.db")
    yield measured
    measured.database.close()


@pytest.mark.parametrize(
    ("waits", "p50", "p95"),
    [([7], 7, 7), (range(1, 101), 50, 95), ([1, 2], 1, 2), ([5, 1, 3], 3, 5)],
)
def test_percentiles_are_of_nearest_rank(waits: list[int], p50: int, p95: int) -> None:
    assert summarize([each * 1000 for each in waits]) == Latency(p50, p95, len(list(waits)))


@pytest.mark.parametrize(
    ("p50_ms", "band"),
    [(0, "low"), (999, "low"), (1_000, "standard"), (4_999, "standard"), (5_000, "high")],
)
def test_band_is_that_of_the_median(p50_ms: int, band: str) -> None:
    assert Latency(p50_ms, p50_ms, 1).band == band


def test_wait_is_for_the_first_byte_of_a_stream_and_for_the_whole_of_another(
    measured: Measured,
) -> None:
    assert measured.look() is None
    measured.add(NOW - 5, streamed=True)
    assert measured.look() == Latency(100, 100, 1)
    measured.add(NOW - 4)
    measured.add(NOW - 3)
    assert measured.look() == Latency(900, 900, 3)


def test_only_completed_calls_of_a_model_by_this_credential_count(measured: Measured) -> None:
    others: list[dict[str, Any]] = [
        {"outcome": "upstream_error"},
        {"model_requested": None},
        {"model_requested": "other"},
        {"credential_id": "cred_2"},
        {"credential_id": None},
    ]
    for more in others:
        measured.add(NOW - 5, **more)
    measured.add(NOW - 5, whole_ms=-1)
    assert measured.look() is None
    assert measured.latencies.find("cred_2", MINI) == Latency(900, 900, 1)
    assert measured.latencies.find("cred_1", "other") is not None


def test_only_the_last_day_counts_also_of_what_was_measured(measured: Measured) -> None:
    measured.add(NOW - 86_401)
    measured.add(NOW - 86_000, whole_ms=1)
    assert measured.look() == Latency(1, 1, 1)
    assert measured.look(NOW + 500) is None


def test_call_that_ended_late_is_counted_once(measured: Measured) -> None:
    measured.add(NOW - 5, whole_ms=1)
    measured.look(NOW)
    measured.add(NOW - 600, whole_ms=3)
    measured.add(NOW - 1000, whole_ms=3)
    assert measured.look(NOW + 60) == Latency(1, 3, 2)


def test_rare_model_is_known_although_others_crowd_the_look(measured: Measured) -> None:
    measured.latencies = Latencies(rows_max=3)
    measured.add(NOW - 100)
    measured.look(NOW - 90)
    for _ in range(5):
        measured.add(NOW - 5, model_requested="busy")
    assert measured.look() == Latency(900, 900, 1)
    busy = measured.latencies.find("cred_1", "busy")
    assert busy is not None
    assert busy.samples == 3


def test_what_is_remembered_is_bounded_and_the_newest(measured: Measured) -> None:
    measured.latencies = Latencies(samples_max=2, models_max=2)
    for seconds in (9, 8, 7):
        measured.add(NOW - seconds, whole_ms=seconds)
    measured.add(NOW - 6, model_requested="b")
    measured.add(NOW - 60, model_requested="old")
    assert measured.look() == Latency(7, 8, 2)
    assert measured.latencies.find("cred_1", "b") is not None
    assert measured.latencies.find("cred_1", "old") is None


def test_latencies_are_measured_on_postgresql_as_well(postgres_url: str) -> None:
    measured = Measured(postgres_url)
    try:
        measured.add(NOW - 86_401)
        measured.add(NOW - 5, whole_ms=3)
        assert measured.look() == Latency(3, 3, 1)
    finally:
        measured.database.close()
