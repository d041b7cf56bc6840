from __future__ import annotations

import asyncio
import datetime
from collections.abc import AsyncGenerator, Generator
from pathlib import Path

import pytest
from msgspec.structs import replace

from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from headgate.metering import store as metering
from headgate.metering.jobs import RollUps, delete_old_roll_ups
from headgate.metering.model import MICROSECONDS
from headgate.metering.model.histogram import (
    decode_histogram,
    encode_histogram,
    find_percentile,
    make_histogram,
)
from headgate.metering.model.zones import find_day, list_periods
from headgate.metering.service.usage import UsageRequest, query_usage
from headgate.metering.store.usage import UsageFilter
from tests.unit.metering.usage_data import DAYS, START, make_random_receipts

pytestmark = pytest.mark.anyio
END = START + DAYS * 86_400
QUERY = UsageRequest(
    filters=UsageFilter(organization_id="org_1"),
    start=int(START * MICROSECONDS),
    end=int(END * MICROSECONDS),
)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    database = Database(tmp_path / "test.db")
    with database.transaction() as connection:
        METADATA.create_all(connection)
    yield database
    database.close()


@pytest.fixture
async def writer(database: Database) -> AsyncGenerator[Writer]:
    writer = Writer(database)
    writer.start()
    yield writer
    await writer.stop()


async def test_job_rolls_up_in_slices_and_once(database: Database, writer: Writer) -> None:
    receipts = make_random_receipts(1, 2_000)
    with database.transaction() as connection:
        metering.insert(connection, receipts)
        before = query_usage(connection, QUERY).total
    jobs, slices = RollUps(writer, slice_seconds=0.0), list[int]()
    both = await asyncio.gather(jobs.run(slices.append), RollUps(writer).run())
    assert sum(both) == 2_000
    assert len(slices) > 1
    assert await jobs.run() == 0
    with database.reading() as connection:
        assert query_usage(connection, QUERY).total == before


async def test_late_receipt_is_added_to_a_day_that_was_rolled_up(
    database: Database, writer: Writer
) -> None:
    receipts = make_random_receipts(2, 100)
    jobs = RollUps(writer)
    for some in (receipts[1:], receipts[:1]):
        with database.transaction() as connection:
            metering.insert(connection, some)
        await jobs.run()
    whole = replace(QUERY, filters=UsageFilter(organization_id=receipts[0].organization_id))
    with database.reading() as connection:
        total = query_usage(connection, whole).total
    own = [each for each in receipts if each.organization_id == receipts[0].organization_id]
    assert total.requests == sum(each.outcome != "corrected" for each in own)
    assert total.cost_nano == sum(each.cost_nano for each in own)


async def test_old_sums_are_deleted_by_their_own_setting(
    database: Database, writer: Writer
) -> None:
    with database.transaction() as connection:
        metering.insert(connection, make_random_receipts(3, 500))
    jobs = RollUps(writer)
    await jobs.run()
    await delete_old_roll_ups(jobs, days=0, now=END + 10**9)
    with database.reading() as connection:
        rest = replace(QUERY, start=int((START + 2 * 86_400) * MICROSECONDS))
        kept = query_usage(connection, rest).total
        assert query_usage(connection, QUERY).total.requests > kept.requests > 0
    await delete_old_roll_ups(jobs, days=3, now=END)
    with database.reading() as connection:
        assert query_usage(connection, QUERY).total == kept


@pytest.mark.parametrize("count", [1, 5, 16, 17, 400])
def test_histogram_survives_its_stored_form(count: int) -> None:
    times = [number**3 * 7 + 50 for number in range(count)]
    histogram = sum(map(make_histogram, times))
    assert decode_histogram(encode_histogram(histogram, count)) == histogram
    assert find_percentile(histogram, 1.0) == pytest.approx(max(times), rel=0.021, abs=100)
    assert find_percentile(0, 0.5) is None


@pytest.mark.parametrize(
    ("zone", "day", "hours"),
    [
        ("Europe/Berlin", "2026-03-29T12", 23),
        ("Europe/Berlin", "2026-10-25T12", 25),
        ("America/Havana", "2026-11-01T12", 25),
        ("Africa/Cairo", "2026-04-24T12", 23),
        ("Australia/Lord_Howe", "2026-04-05T01", 24.5),
        ("Asia/Kathmandu", "2026-04-05T01", 24),
        ("Pacific/Chatham", "2026-06-01T01", 24),
    ],
)
def test_days_have_the_hours_of_their_zone(zone: str, day: str, hours: float) -> None:
    at = datetime.datetime.fromisoformat(day).replace(tzinfo=datetime.UTC).timestamp()
    found = find_day(zone, int(at) * MICROSECONDS)
    assert (found.end - found.start) / MICROSECONDS / 3600 == hours
    assert found.start % (900 * MICROSECONDS) == 0
    parts = list(list_periods(zone, "hour", found.start, found.end))
    assert sum(each.end - each.start for each in parts) == found.end - found.start
