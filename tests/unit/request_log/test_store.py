"""The rows of the request log on both databases: pages, filters, retention and sealed bodies."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator, AsyncIterator, Generator
from pathlib import Path

import pytest
import sqlalchemy as sa

from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from headgate.request_log.jobs import RequestPruner
from headgate.request_log.model.entry import MICROSECONDS, RequestEntry, RequestFilter, RequestList
from headgate.request_log.service.entries import clean
from headgate.request_log.service.index import RequestLogIndex
from headgate.request_log.service.tail import RequestTails, TooManyTailsError
from headgate.request_log.store import entries
from tests.fakes.ledger import NOVEMBER, SetClock
from tests.fakes.requests import make_entry

pytestmark = pytest.mark.anyio
OWN = RequestFilter(organization_id="org_1")
DAY = 86_400


@pytest.fixture
def database(empty_place: Path | str) -> Generator[Database]:
    database = Database(empty_place)
    with database.transaction() as connection:
        METADATA.create_all(connection)
    yield database
    database.close()


def insert(database: Database, *rows: RequestEntry) -> int:
    with database.transaction() as connection:
        return entries.insert(connection, rows)


def list_ids(connection: sa.Connection, filters: RequestFilter = OWN, **given: int) -> list[str]:
    page = entries.list_page(connection, filters, after=None, limit=100, **given)
    return [each.id for each in page.entries]


def test_row_is_read_as_it_was_written_and_only_once(database: Database) -> None:
    entry = make_entry(
        metadata='{"a":"ü\\"x","b":"%"}',
        failure_reason=clean("half \ud800 and \0 nothing"),
        events="[]",
        total_microseconds=5,
    )
    assert insert(database, entry, make_entry(id="req_2")) == 2
    assert insert(database, entry) == 0
    with database.reading() as connection:
        assert entries.find(connection, "req_1") == entry
        assert entries.find(connection, "req_3") is None
        for pair, expected in ((("b", "%"), ["req_1"]), (("a", "x"), []), (("b", "_"), [])):
            filters = RequestFilter(organization_id="org_1", metadata=pair)
            assert list_ids(connection, filters) == expected
        assert list_ids(connection, RequestFilter(organization_id="org_2")) == []


def test_page_ends_when_enough_rows_were_examined(database: Database) -> None:
    rows = [make_entry(id=f"req_{at}", created_at=at, status=500 - at) for at in range(6)]
    insert(database, *rows)
    failed = RequestFilter(organization_id="org_1", status=500)
    with database.reading() as connection:
        page = entries.list_page(connection, failed, after=None, limit=10, scanned_max=3)
        assert page.entries == []
        seen: list[RequestEntry] = []
        while page.next is not None:
            page = entries.list_page(connection, failed, after=page.next, limit=10, scanned_max=3)
            seen += page.entries
    assert [each.id for each in seen] == ["req_0"]


@contextlib.asynccontextmanager
async def running(database: Database) -> AsyncGenerator[Writer]:
    writer = Writer(database)
    writer.start()
    try:
        yield writer
    finally:
        await writer.stop()


async def test_requests_are_deleted_by_the_age_that_their_project_chose(
    database: Database,
) -> None:
    ages = [0, 6, 8, 31]
    insert(
        database,
        *(
            make_entry(
                id=f"{project}_{age}",
                project_id=project,
                created_at=int((NOVEMBER - age * DAY) * MICROSECONDS),
            )
            for project in ("proj_1", "proj_2")
            for age in ages
        ),
    )
    with database.transaction() as connection:
        connection.exec_driver_sql(
            "INSERT INTO organizations (id, name, created_at) VALUES ('org_1', 'o', 0)"
        )
        connection.exec_driver_sql(
            "INSERT INTO projects (id, organization_id, name, created_at) "
            "VALUES ('proj_2', 'org_1', 'p', 0)"
        )
        connection.exec_driver_sql(
            "INSERT INTO request_log_settings VALUES ('proj_2', 'org_1', 'metadata', 7, 1, 0)"
        )
    index = RequestLogIndex()
    with database.reading() as connection:
        index.load(connection)
    async with running(database) as writer:
        assert await RequestPruner(writer, index).run(NOVEMBER) == 3
    with database.reading() as connection:
        left = set(list_ids(connection))
    assert left == {"proj_1_0", "proj_1_6", "proj_1_8", "proj_2_0", "proj_2_6"}


def test_default_holds_for_projects_that_chose_nothing(database: Database) -> None:
    index = RequestLogIndex("metadata")
    told: list[bool] = []
    index.listen(lambda projects: told.append("proj_2" in projects))
    with database.reading() as connection:
        index.load(connection)
    assert index.find("proj_1").mode == "metadata"
    assert "proj_1" in index.projects
    assert told == [True, True]


class Pages:
    """Return the pages that a test prepares, one for each poll."""

    def __init__(self, clock: SetClock, *pages: list[RequestEntry]) -> None:
        self.clock = clock
        self.pages = list(pages)
        self.asked: list[RequestFilter] = []

    async def read(self, filters: RequestFilter, _limit: int) -> RequestList:
        self.asked.append(filters)
        return RequestList(self.pages.pop(0) if self.pages else [], None)

    async def sleep(self, seconds: float) -> None:
        self.clock.time += seconds


async def collect(stream: AsyncIterator[list[RequestEntry]]) -> list[list[str]]:
    return [[each.id for each in rows] async for rows in stream]


async def test_tail_tells_each_request_once_and_late_ones_too() -> None:
    clock = SetClock()
    first, late, second = (make_entry(id=name) for name in ("req_1", "req_0", "req_2"))
    pages = Pages(clock, [first], [second, first], [second, first, late])
    tails = RequestTails(clock, seconds_max=60)
    told = await collect(tails.follow(pages.read, OWN, seconds=2, sleep=pages.sleep))
    assert told == [["req_1"], ["req_2"], ["req_0"]]
    assert pages.asked[0].since == NOVEMBER
    assert tails.running == 0


async def test_quiet_tail_shows_that_it_lives_and_their_number_is_limited() -> None:
    clock = SetClock()
    pages = Pages(clock)
    tails = RequestTails(clock, seconds_max=40, tails_max=1)
    stream = tails.follow(pages.read, OWN, seconds=600, sleep=pages.sleep)
    assert await anext(stream) == []
    with pytest.raises(TooManyTailsError):
        await anext(tails.follow(pages.read, OWN, seconds=1, sleep=pages.sleep))
    assert await collect(stream) == [[], []]
    assert clock.time - NOVEMBER >= 40
    assert pages.asked[-1].since is not None
    assert clock.time - pages.asked[-1].since < 11


async def test_tail_ends_for_a_reader_who_may_not_read_any_more() -> None:
    clock = SetClock()
    pages = Pages(clock)
    tails = RequestTails(clock, seconds_max=600)

    async def check() -> None:
        if clock.time - NOVEMBER > 15:
            raise TooManyTailsError("not any more")

    stream = tails.follow(pages.read, OWN, seconds=600, check=check, sleep=pages.sleep)
    with pytest.raises(TooManyTailsError, match="not any more"):
        await collect(stream)
    assert clock.time - NOVEMBER <= 25
    assert tails.running == 0
