"""Two processes on one PostgreSQL make the same thing in the same instant: one of them is told."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Callable
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from headgate.accounts.model import Person, PersonExistsError, PersonRequest
from headgate.accounts.service import PersonService
from headgate.audit.model import SYSTEM
from headgate.audit.service import AuditLog
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.db.engine import Database
from headgate.kit.db.writer import Writer
from headgate.kit.idempotency import IdempotencyClaim, find_response, store_response
from headgate.kit.ids import IdGenerator
from tests.fakes.pipeline import ManualClock
from tests.fakes.waiting import wait_until

pytestmark = pytest.mark.anyio

CLAIM = IdempotencyClaim(b"hg_admin_mine", "key-1", "POST /api/projects", b"{}")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


class Processes:
    """A process that writes through its storage, and another one in a transaction of its own."""

    def __init__(self, url: str) -> None:
        self.database, self.other = Database(url), Database(url)
        self.writer = Writer(self.database)
        self.storage = AsyncDatabase(self.database, self.writer, reload=lambda: None)
        clock = ManualClock()
        self.people = PersonService(clock, IdGenerator(), AuditLog(clock))

    async def write_at_once(self, work: Callable[[sa.Connection], Any]) -> Any:
        """What comes of a write that waits for the other process's same one."""
        with self.other.transaction() as connection:
            work(connection)
            writing = asyncio.ensure_future(self.storage.write(work))
            await asyncio.to_thread(wait_until, self.is_waited_for, 10)
        return await writing

    def is_waited_for(self) -> bool:
        query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
        with self.database.reading() as connection:
            return connection.exec_driver_sql(query).scalar_one() > 0


@pytest.fixture
async def processes(prepared_url: str) -> AsyncGenerator[Processes]:
    processes = Processes(prepared_url)
    processes.writer.start()
    yield processes
    await processes.writer.stop()
    processes.database.close()
    processes.other.close()


async def test_concurrent_requests_with_one_idempotency_key_get_the_first_answer(
    processes: Processes,
) -> None:
    made: list[bytes] = []

    def make_once(connection: sa.Connection) -> bytes:
        known = find_response(connection, CLAIM, now=1.0)
        if known is not None:
            return known
        made.append(b"answer %d" % len(made))
        store_response(connection, CLAIM, made[-1], now=1.0)
        return made[-1]

    assert await processes.write_at_once(make_once) == b"answer 0"


async def test_concurrent_creation_of_one_email_is_a_conflict(processes: Processes) -> None:
    def add(connection: sa.Connection) -> Person:
        request = PersonRequest(email="ada@example.com", name="Ada")
        return processes.people.add(connection, request, by=SYSTEM)

    with pytest.raises(PersonExistsError):
        await processes.write_at_once(add)


async def test_repeated_constraint_violation_is_raised(processes: Processes) -> None:
    tried: list[int] = []

    def contradict(connection: sa.Connection) -> None:
        tried.append(1)
        for _ in range(2):
            keep = sa.text("INSERT INTO revisions (topic, value) VALUES ('twice', 1)")
            connection.execute(keep)

    with pytest.raises(exc.IntegrityError):
        await processes.storage.write(contradict)
    assert len(tried) == 2
