from __future__ import annotations

import itertools
import random
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from msgspec.structs import replace

from headgate.accounts.model import Organization
from headgate.accounts.store import tenants
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.time_zones import UnknownZoneError
from headgate.metering import store as metering
from headgate.metering.model import MICROSECONDS
from headgate.metering.model.usage import Measures, UsageRangeError, UsageTooLargeError
from headgate.metering.model.zones import find_day
from headgate.metering.service import usage as service
from headgate.metering.service.roll_up import rebuild_some, roll_up_step
from headgate.metering.service.usage import (
    InvalidUsageCursorError,
    UsageAnswer,
    UsageRequest,
    query_usage,
)
from headgate.metering.store.usage import DAYS as DAY_ROWS
from headgate.metering.store.usage import UsageFilter
from headgate.relay.ports import Receipt
from tests.unit.metering.usage_data import (
    DAYS,
    NAMES,
    START,
    add_up,
    make_random_receipts,
    name_model,
)

END = START + DAYS * 86_400
WHOLE = UsageRequest(
    filters=UsageFilter(organization_id="org_1"),
    start=int(START * MICROSECONDS),
    end=int(END * MICROSECONDS),
    limit=10_000,
)


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Database]:
    if request.param == "sqlite":
        database = Database(tmp_path / "test.db")
    else:
        database = Database(request.getfixturevalue("prepared_url"))
    with database.transaction() as connection:
        METADATA.create_all(connection)
        for number in (1, 2):
            organization = Organization(f"org_{number}", f"Name {number}", 1.0)
            tenants.insert_organization(connection, organization)
    yield database
    database.close()


def fill(database: Database, receipts: Sequence[Receipt], *, parts: int = 3) -> None:
    """Store receipts in any order, roll all but the last part up, and leave that open."""
    for number in range(parts):
        with database.transaction() as connection:
            metering.insert(connection, receipts[number::parts])
            while number < parts - 1 and roll_up_step(connection, 97):
                pass


def set_zone(database: Database, zone: str) -> None:
    with database.transaction() as connection:
        tenants.update_organization(connection, "org_1", {"reporting_zone": zone})


def rebuild(database: Database) -> int:
    """Rebuild the days, each step in a transaction of its own; return the number of steps."""
    for number in itertools.count():
        with database.transaction() as connection:
            if not rebuild_some(connection):
                return number
    raise AssertionError


def ask(database: Database, query: UsageRequest) -> UsageAnswer:
    with database.reading() as connection:
        return query_usage(connection, query)


def read_sums(measures: Measures) -> dict[str, int]:
    return {name: getattr(measures, name) for name in NAMES}


def read_rows(answer: UsageAnswer) -> dict[Any, dict[str, int]]:
    """Return the sums of the rows that have calls, by group."""
    return {
        row.group: read_sums(row.measures)
        for row in answer.rows
        if any(read_sums(row.measures).values())
    }


@pytest.mark.parametrize("seed", range(3))
def test_sums_equal_the_receipts_for_any_range_and_group(database: Database, seed: int) -> None:
    receipts = make_random_receipts(seed, 600)
    fill(database, receipts)
    own = [each for each in receipts if each.organization_id == "org_1"]
    random_ = random.Random(seed)
    for _ in range(8):
        quarters = DAYS * 96
        first, last = sorted(random_.sample(range(quarters + 1), 2))
        start, end = START + first * 900, START + last * 900
        query = replace(
            WHOLE,
            start=int(start * MICROSECONDS),
            end=int(end * MICROSECONDS),
            group_by=("model", "key_id", "provider"),
        )
        answer = ask(database, query)
        expected = add_up(
            own, lambda each: (name_model(each), each.key_id, each.provider), start=start, end=end
        )
        assert read_rows(answer) == expected
        total = add_up(own, lambda _: (), start=start, end=end).get((), dict.fromkeys(NAMES, 0))
        assert read_sums(answer.total) == total


def test_days_of_a_zone_add_up_to_the_range(database: Database) -> None:
    """Europe/Berlin has a day of 23 hours in the range, Asia/Kathmandu begins at 18:15 UTC."""
    receipts = make_random_receipts(7, 500)
    fill(database, receipts)
    own = [each for each in receipts if each.organization_id == "org_1"]
    for zone in ("UTC", "Europe/Berlin", "Asia/Kathmandu", "Australia/Lord_Howe"):
        for granularity in ("hour", "day", "month"):
            answer = ask(database, replace(WHOLE, zone=zone, granularity=granularity))
            ends = [row.period for row in answer.rows]
            assert [each.end for each in ends[:-1]] == [each.start for each in ends[1:]]
            for name in NAMES:
                assert sum(getattr(row.measures, name) for row in answer.rows) == getattr(
                    answer.total, name
                )
        day = find_day(zone, int((START + 2 * 86_400) * MICROSECONDS))
        answer = ask(database, replace(WHOLE, zone=zone, start=day.start, end=day.end))
        start, end = day.start / MICROSECONDS, day.end / MICROSECONDS
        assert read_sums(answer.total) == add_up(own, lambda _: 1, start=start, end=end)[1]


def test_day_on_which_the_clock_changes_has_23_hours(database: Database) -> None:
    fill(database, make_random_receipts(1, 10))
    day = find_day("Europe/Berlin", int((START + 2.5 * 86_400) * MICROSECONDS))
    assert day.end - day.start == 23 * 3_600 * MICROSECONDS
    query = replace(WHOLE, zone="Europe/Berlin", granularity="hour", start=day.start, end=day.end)
    assert len(ask(database, query).rows) == 23


def test_another_reporting_zone_rebuilds_the_days_and_loses_nothing(database: Database) -> None:
    receipts = make_random_receipts(3, 400)
    fill(database, receipts[:300])
    before = ask(database, replace(WHOLE, granularity="day", zone="Asia/Kolkata"))
    set_zone(database, "Asia/Kolkata")
    for _ in range(3):
        with database.transaction() as connection:
            assert rebuild_some(connection)
    assert ask(database, replace(WHOLE, granularity="day", zone="Asia/Kolkata")) == before
    with database.transaction() as connection:
        metering.insert(connection, receipts[300:])
        while roll_up_step(connection, 50):
            pass
    after = ask(database, replace(WHOLE, granularity="day", zone="Asia/Kolkata"))
    assert rebuild(database)
    assert ask(database, replace(WHOLE, granularity="day", zone="Asia/Kolkata")) == after
    own = [each for each in receipts if each.organization_id == "org_1"]
    assert read_sums(after.total) == add_up(own, lambda _: 1, start=START, end=END)[1]
    with database.reading() as connection:
        starts = (
            connection.execute(
                sa.select(DAY_ROWS.c.bucket_at)
                .distinct()
                .where(DAY_ROWS.c.organization_id == "org_1")
            )
            .scalars()
            .all()
        )
    assert all(find_day("Asia/Kolkata", start).start == start for start in starts)


def test_cursor_gives_every_row_once(database: Database) -> None:
    fill(database, make_random_receipts(4, 300))
    query = replace(WHOLE, granularity="day", group_by=("project_id", "model"))
    every = ask(database, query).rows
    seen: list[Any] = []
    cursor = ""
    while True:
        answer = ask(database, replace(query, cursor=cursor, limit=7))
        seen += answer.rows
        if answer.next_cursor is None:
            break
        cursor = answer.next_cursor
    assert seen == every
    assert len(every) == DAYS * len({row.group for row in every})


def test_metadata_groups_are_read_from_the_receipts(database: Database) -> None:
    receipts = make_random_receipts(5, 300)
    fill(database, receipts)
    own = [each for each in receipts if each.organization_id == "org_1"]
    answer = ask(database, replace(WHOLE, group_by=("metadata.team", "key_id")))
    teams = {"": "", '{"team":"a"}': "a", '{"team":"b","user":"u1"}': "b"}
    expected = add_up(own, lambda each: (teams[each.metadata], each.key_id), start=START, end=END)
    assert read_rows(answer) == expected


def test_filters_and_scopes_restrict_sums(database: Database) -> None:
    receipts = make_random_receipts(6, 300)
    fill(database, receipts)
    own = [each for each in receipts if each.organization_id == "org_1"]
    cases: list[tuple[dict[str, Any], Callable[[Receipt], bool]]] = [
        ({"key_id": "key_2"}, lambda each: each.key_id == "key_2"),
        ({"model": "gpt-5.4"}, lambda each: name_model(each) == "gpt-5.4"),
        ({"managed": True}, lambda each: each.managed),
        ({"projects": ("proj_1",)}, lambda each: each.project_id == "proj_1"),
    ]
    for fields, keeps in cases:
        query = replace(WHOLE, filters=UsageFilter(organization_id="org_1", **fields))
        expected = add_up(filter(keeps, own), lambda _: 1, start=START, end=END)[1]
        assert read_sums(ask(database, query).total) == expected


def test_percentiles_are_within_two_percent(database: Database) -> None:
    receipts = make_random_receipts(9, 900)
    fill(database, receipts)
    times = sorted(
        each.total_microseconds
        for each in receipts
        if each.organization_id == "org_1" and each.outcome == "completed"
    )
    total = ask(database, WHOLE).total
    assert total.latency_count == len(times)
    assert total.latency_microseconds == sum(times)
    for share in (0.5, 0.95, 0.99):
        exact = times[-(-len(times) * int(share * 100) // 100) - 1]
        assert total.find_percentile(share) == pytest.approx(exact, rel=0.021)


def test_pruned_receipts_stay_in_the_sums(database: Database) -> None:
    receipts = make_random_receipts(10, 200)
    with database.transaction() as connection:
        metering.insert(connection, receipts)
        assert metering.delete_before(connection, END, 1000) == 0
        while roll_up_step(connection, 100):
            pass
    before = ask(database, WHOLE).total
    with database.transaction() as connection:
        assert metering.delete_before(connection, END, 1000) == len(receipts)
    assert ask(database, WHOLE).total == before


def test_bad_queries_are_refused(database: Database, monkeypatch: pytest.MonkeyPatch) -> None:
    fill(database, make_random_receipts(11, 100))
    with pytest.raises(UsageRangeError):
        ask(database, replace(WHOLE, end=WHOLE.start))
    with pytest.raises(UnknownZoneError):
        ask(database, replace(WHOLE, zone="Mars/Olympus"))
    with pytest.raises(InvalidUsageCursorError):
        ask(database, replace(WHOLE, cursor="?"))
    monkeypatch.setattr(service, "GROUPS_MAX", 2)
    with pytest.raises(UsageTooLargeError):
        ask(database, replace(WHOLE, group_by=("key_id", "model")))
