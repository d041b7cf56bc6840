"""What a shared database on a network adds to the writer's work: cuts, rings, and other writers."""

from __future__ import annotations

import asyncio
import sys
import threading
from collections.abc import AsyncGenerator, Generator, Sequence

import pytest
import sqlalchemy as sa
from psycopg import errors
from sqlalchemy import exc

from headgate.kit.db.address import InvalidDatabaseUrlError
from headgate.kit.db.dialect import UnknownOutcomeError
from headgate.kit.db.engine import (
    POSTGRESQL,
    Database,
    DriverNotInstalledError,
    StorageUnavailableError,
)
from headgate.kit.db.postgresql import PostgresWriterConnection, is_unavailable
from headgate.kit.db.schema import REVISIONS, bump_revision, read_revisions
from headgate.kit.db.statement import BulkInsert, HotStatement, build_insert
from headgate.kit.db.writer import BatchQueue, Writer
from headgate.settings import load
from tests.fakes.postgres import Postgres, Wire
from tests.fakes.waiting import wait_until

pytestmark = pytest.mark.anyio

WORDS = sa.Table("words", sa.MetaData(), sa.Column("word", sa.Text, primary_key=True))
INSERT = build_insert(WORDS)


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


def open_words(url: str, *, wait_seconds: float = 5.0) -> Database:
    database = Database(url, busy_timeout_seconds=wait_seconds)
    with database.transaction(exclusive=True) as connection:
        WORDS.create(connection, checkfirst=True)
        REVISIONS.create(connection, checkfirst=True)
    return database


@pytest.fixture
def database(postgres_url: str) -> Generator[Database]:
    database = open_words(postgres_url)
    yield database
    database.close()


@pytest.fixture
async def writer(database: Database) -> AsyncGenerator[Writer]:
    writer = Writer(database)
    writer.start()
    yield writer
    await writer.stop()


@pytest.fixture
def wired(database: Database, postgres_url: str, wire: Wire) -> Generator[Database]:
    """The same database over a network that can be cut."""
    wired = Database(wire.url(postgres_url), busy_timeout_seconds=5.0)
    yield wired
    wired.close()


@pytest.fixture
async def wired_writer(wired: Database) -> AsyncGenerator[Writer]:
    writer = Writer(wired)
    writer.start()
    yield writer
    await writer.stop()


def word_queue(writer: Writer) -> BatchQueue[str, str]:
    def insert(connection: sa.Connection, words: Sequence[str]) -> Sequence[str]:
        INSERT.run_all(connection, [(word,) for word in words])
        return words

    return writer.create_queue(insert, durable=True)


def read_words(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(connection.execute(sa.select(WORDS.c.word).order_by(WORDS.c.word)).scalars())


async def test_connection_lost_while_idle_is_reopened(
    writer: Writer, database: Database, postgres: Postgres
) -> None:
    batch_queue = word_queue(writer)
    await batch_queue.put("a")
    assert read_words(database) == ["a"]
    postgres.cut_connections(str(database.place))
    assert await batch_queue.put("b") == "b"
    assert read_words(database) == ["a", "b"]
    assert writer.health.is_healthy


@pytest.mark.parametrize("delivers", [True, False])
@pytest.mark.parametrize("word", [b"COMMIT", b"INSERT"])
async def test_batch_whose_connection_is_cut_is_committed_exactly_once(
    wired_writer: Writer, database: Database, wire: Wire, word: bytes, delivers: bool
) -> None:
    """Not only what is the same when it is done twice: the writer's own row knows."""
    batch_queue = word_queue(wired_writer)
    wire.cut_at(word, delivers=delivers)
    assert await asyncio.gather(batch_queue.put("a"), batch_queue.put("b")) == ["a", "b"]
    assert read_words(database) == ["a", "b"]
    assert wired_writer.health.is_healthy


async def test_acknowledged_commit_is_not_repeated(
    wired_writer: Writer, database: Database, wire: Wire
) -> None:
    runs: list[str] = []

    def count(connection: sa.Connection) -> None:
        runs.append("run")
        INSERT.run(connection, (f"word {len(runs)}",))

    wire.cut_at(b"COMMIT", delivers=True)
    await wired_writer.call(count)
    wire.cut_at(b"COMMIT", delivers=False)
    await wired_writer.call(count)
    assert len(runs) == 3
    assert read_words(database) == ["word 1", "word 3"]


async def test_unreachable_server_raises_and_is_used_again_when_back(
    wired_writer: Writer, wired: Database, database: Database, wire: Wire
) -> None:
    batch_queue = word_queue(wired_writer)
    await batch_queue.put("a")
    wire.fail()
    with pytest.raises(StorageUnavailableError):
        await batch_queue.put("b")
    with pytest.raises(StorageUnavailableError), wired.reading():
        pass
    assert not wired_writer.health.is_healthy
    assert not wired_writer.health.lost
    wire.heal()
    assert await batch_queue.put("c") == "c"
    assert wired_writer.health.is_healthy
    assert read_words(database) == ["a", "c"]


async def test_deadlocked_transactions_are_both_committed(
    writer: Writer, database: Database
) -> None:
    with database.transaction() as connection:
        INSERT.run_all(connection, [("a",), ("b",)])
    holds_b, other_waits = threading.Event(), threading.Event()
    update = sa.update(WORDS)

    def cross() -> None:
        with database.transaction() as connection:
            connection.execute(update.where(WORDS.c.word == "b").values(word="b"))
            holds_b.set()
            other_waits.wait(5)
            connection.execute(update.where(WORDS.c.word == "a").values(word="a2"))

    def work(connection: sa.Connection) -> None:
        connection.execute(update.where(WORDS.c.word.in_(["a", "a2"])).values(word="a3"))
        other_waits.set()
        connection.execute(update.where(WORDS.c.word == "b").values(word="b3"))

    crossing = asyncio.create_task(asyncio.to_thread(cross))
    await asyncio.to_thread(holds_b.wait, 5)
    results = await asyncio.gather(crossing, writer.call(work), return_exceptions=True)
    # The server picks who gives way. The writer does it again; the command line would say so.
    assert results[1] is None
    assert isinstance(results[0], (type(None), StorageUnavailableError))
    assert read_words(database) == ["a3", "b3"]


async def test_items_of_one_lock_name_commit_in_turn_over_processes(
    database: Database, postgres_url: str
) -> None:
    other = Database(postgres_url)
    writers = [Writer(database), Writer(other)]
    inside: list[str] = []
    beside: list[list[str]] = []
    both = threading.Barrier(2, timeout=0.3)

    def meet(_connection: sa.Connection, items: Sequence[str]) -> Sequence[bool]:
        inside.extend(items)
        beside.append(list(inside))
        try:
            both.wait()
        except threading.BrokenBarrierError:
            return [False]
        finally:
            inside.remove(items[0])
        return [True]

    met: dict[bool, list[bool]] = {}
    for same in (True, False):
        batch_queues: list[BatchQueue[str, bool]] = []
        for number, each in enumerate(writers):
            if not each.is_running:
                each.start()
            name = "org" if same else f"org {number}"
            batch_queues.append(
                each.create_queue(meet, durable=True, lock_name=lambda _item, name=name: name)
            )
        both.reset()
        met[same] = list(
            await asyncio.gather(*[batch_queue.put("x") for batch_queue in batch_queues])
        )
    assert met == {True: [False, False], False: [True, True]}
    for each in writers:
        await each.stop()
    other.close()


async def test_writer_knows_whether_it_is_the_only_one(
    writer: Writer, postgres_url: str, database: Database
) -> None:
    def ask(connection: sa.Connection) -> bool:
        return writer.is_alone(connection)

    assert await writer.call(ask)
    other = Database(postgres_url)
    second = Writer(other)
    second.start()
    assert not await writer.call(ask)
    await second.stop()
    other.close()
    assert await writer.call(ask)


async def test_lock_wait_ends_at_the_setting(postgres_url: str, database: Database) -> None:
    hasty = Database(postgres_url, busy_timeout_seconds=0.2)
    writer = Writer(hasty)
    writer.start()
    with database.transaction() as connection:
        connection.exec_driver_sql("LOCK TABLE words IN EXCLUSIVE MODE")
        with pytest.raises(StorageUnavailableError):
            await word_queue(writer).put("a")
    assert await word_queue(writer).put("b") == "b"
    await writer.stop()
    hasty.close()


def test_unknown_outcome_is_not_retried(database: Database) -> None:
    writer_connection = database.open_writer_connection()
    assert isinstance(writer_connection, PostgresWriterConnection)
    unknown = UnknownOutcomeError("cut")
    assert is_unavailable(unknown)
    assert not writer_connection.prepare_retry(unknown)
    assert writer_connection.prepare_retry(errors.SerializationFailure())
    assert not writer_connection.prepare_retry(errors.UniqueViolation())
    writer_connection.close()


def test_nul_is_stored_as_replacement_character(
    database: Database,
) -> None:
    with database.transaction() as connection:
        INSERT.run(connection, ("a\0b",))
    assert read_words(database) == ["a\ufffdb"]


def test_reading_block_sees_one_state_and_changes_nothing(database: Database) -> None:
    with database.reading() as connection:
        assert connection.execute(sa.select(WORDS)).all() == []
        with database.transaction() as other:
            INSERT.run(other, ("a",))
        assert connection.execute(sa.select(WORDS)).all() == []
        with pytest.raises(exc.InternalError, match="read-only"):
            connection.execute(sa.insert(WORDS).values(word="b"))
    assert read_words(database) == ["a"]


def test_concurrent_first_revisions_of_a_topic_are_both_counted(
    database: Database,
) -> None:
    begun = threading.Event()

    def bump() -> None:
        with database.transaction() as connection:
            begun.set()
            bump_revision(connection, "keys")

    with database.transaction() as connection:
        bump_revision(connection, "keys")
        thread = threading.Thread(target=bump)
        thread.start()
        begun.wait(5)
        wait_until(lambda: count_waiting(database) == 1)
    thread.join(5)
    with database.reading() as connection:
        assert read_revisions(connection) == {"keys": 2}


def count_waiting(database: Database) -> int:
    query = "SELECT count(*) FROM pg_locks WHERE NOT granted"
    with database.reading() as connection:
        return connection.exec_driver_sql(query).scalar_one()


def test_statement_is_compiled_once_for_each_kind_of_database(database: Database) -> None:
    statement = HotStatement(sa.select(WORDS).where(WORDS.c.word == sa.bindparam("word")), "word")
    bulk = BulkInsert(WORDS, ignore_known=True)
    with database.transaction() as connection:
        texts = [statement.compile(connection.dialect) for _ in range(2)]
        assert bulk.run(connection, [(f"{number:03}",) for number in range(100)]) == 100
        assert bulk.run(connection, [("000",), ("new",)]) == 1
        assert statement.run(connection, ("new",)) == 1
    assert texts[0] == texts[1]
    assert "%s" in texts[0]


@pytest.mark.parametrize(
    ("url", "reason"),
    [
        ("headgate", "is no URL: write postgresql://"),
        ("mysql://u:hunter2@h/d", "scheme 'mysql', which is not supported"),
        ("postgresql+psycopg://u:hunter2@h/d", "which is not supported"),
        ("postgresql://u:hunter2@h:many/d", "a port that cannot be"),
        ("postgresql://u:hunter2@h:99999/d", "a port that cannot be"),
        ("postgresql://u:hunter2@[::1/d", "a host or a port that cannot be"),
        ("postgresql://u:hunter2@h", "names no database"),
        ("postgresql://u:hunter2@h/", "names no database"),
        ("postgresql://u:hun#ter2@h/d", "write it as %23|a port that cannot be|names no database"),
        ("postgresql://u:hunter2@h/d?colour=red", "an option that PostgreSQL's driver"),
    ],
)
def test_invalid_url_is_refused_without_its_password(url: str, reason: str) -> None:
    with pytest.raises(InvalidDatabaseUrlError, match=reason) as refused:
        Database(url)
    assert "ter2" not in str(refused.value)


def test_database_is_named_without_user_password_and_options() -> None:
    database = Database("postgres://u:hunter2@db.example:5433/gate?sslmode=require")
    assert database.name == "postgresql://db.example:5433/gate"
    assert "hunter2" not in repr(load({"HEADGATE_DATABASE_URL": str(database.place)}))
    database.close()


def test_missing_server_is_unavailable_and_its_password_not_shown() -> None:
    database = Database("postgresql://u:hunter2@127.0.0.1:1/gate", busy_timeout_seconds=1.0)
    with pytest.raises(StorageUnavailableError) as refused, database.reading():
        pass
    assert "hunter2" not in str(refused.value)
    database.close()


def test_driver_that_is_missing_is_named_with_its_extra(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delitem(sys.modules, POSTGRESQL)
    monkeypatch.setitem(sys.modules, "psycopg", None)
    with pytest.raises(DriverNotInstalledError, match=r"pip install 'headgate\[postgres\]'"):
        Database("postgresql://h/d")
