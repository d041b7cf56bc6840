from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, Generator, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from headgate.kit.db import sqlite
from headgate.kit.db.engine import Database, StorageUnavailableError
from headgate.kit.db.writer import BatchQueue, Writer
from headgate.kit.failpoint import arm

pytestmark = pytest.mark.anyio

BIG = "x" * 20_000


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def database(tmp_path: Path) -> Generator[Database]:
    database = Database(tmp_path / "test.db", busy_timeout_seconds=0.05)
    with database.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE words (word TEXT PRIMARY KEY)")
    yield database
    database.close()


@pytest.fixture
async def writer(database: Database) -> AsyncGenerator[Writer]:
    writer = Writer(database)
    writer.start()
    yield writer
    await writer.stop()


def insert_words(connection: sa.Connection, words: Sequence[str]) -> Sequence[str]:
    connection.connection.cursor().executemany(
        "INSERT INTO words VALUES (?)", [(word,) for word in words]
    )
    return words


def word_queue(writer: Writer, *, durable: bool = False) -> BatchQueue[str, str]:
    return writer.create_queue(insert_words, durable=durable)


def read_words(database: Database) -> list[str]:
    with database.reading() as connection:
        return list(
            connection.exec_driver_sql("SELECT word FROM words ORDER BY word").scalars().all()
        )


async def test_result_comes_after_its_commit(database: Database, writer: Writer) -> None:
    assert await word_queue(writer).put("a") == "a"
    assert read_words(database) == ["a"]


async def test_waiting_items_are_handled_in_one_batch(writer: Writer) -> None:
    batches: list[int] = []

    def count(connection: sa.Connection, items: Sequence[int]) -> Sequence[int]:
        batches.append(len(items))
        return [item * 2 for item in items]

    batch_queue = writer.create_queue(count, durable=False)
    assert await asyncio.gather(*[batch_queue.put(item) for item in range(40)]) == list(
        range(0, 80, 2)
    )
    assert batches == [40]


class HeldBatches:
    """Keep the first batch in its commit until it is let go, and note all batches."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        self.began = threading.Event()
        self.may_commit = threading.Event()

    def handle(self, connection: sa.Connection, items: Sequence[str]) -> Sequence[str]:
        self.batches.append(list(items))
        self.began.set()
        self.may_commit.wait(5)
        return items


async def test_items_of_a_commit_wait_for_what_its_end_brings(
    writer: Writer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("headgate.kit.db.writer.GATHER_SECONDS", 5.0)
    held = HeldBatches()
    batch_queue = writer.create_queue(held.handle, durable=False)
    first = batch_queue.put("first")
    await asyncio.to_thread(held.began.wait, 5)
    waiting = batch_queue.put("waiting")
    held.may_commit.set()
    await first
    brought = batch_queue.put("brought by the first")
    await asyncio.wait_for(asyncio.gather(waiting, brought), 2)
    assert held.batches == [["first"], ["waiting", "brought by the first"]]


async def test_a_long_commit_does_not_keep_items_from_the_queue(writer: Writer) -> None:
    held = HeldBatches()
    batch_queue = writer.create_queue(held.handle, durable=False)
    first = batch_queue.put("first")
    await asyncio.to_thread(held.began.wait, 5)
    waiting = batch_queue.put("waiting")
    # Longer than items are gathered: then they are handed over, and committed by the thread alone.
    await asyncio.sleep(0.05)
    held.may_commit.set()
    threading.Event().wait(0.2)
    assert held.batches == [["first"], ["waiting"]]
    assert await asyncio.gather(first, waiting) == ["first", "waiting"]


async def test_one_bad_item_does_not_fail_the_others(database: Database, writer: Writer) -> None:
    batch_queue, durable = word_queue(writer), word_queue(writer, durable=True)
    results = await asyncio.gather(
        batch_queue.put("a"),
        batch_queue.put("a"),
        durable.put("b"),
        durable.put("c"),
        return_exceptions=True,
    )
    assert results[0] == "a"
    assert isinstance(results[1], sqlite.DRIVER.IntegrityError)
    assert results[2:] == ["b", "c"]
    assert read_words(database) == ["a", "b", "c"]


async def test_error_that_a_handler_returns_is_raised_to_its_caller_alone(
    database: Database, writer: Writer
) -> None:
    def refuse_short(connection: sa.Connection, words: Sequence[str]) -> Sequence[str | Exception]:
        insert_words(connection, [word for word in words if len(word) > 1])
        return [word if len(word) > 1 else ValueError(word) for word in words]

    batch_queue: BatchQueue[str, str] = writer.create_queue(refuse_short, durable=False)
    long, short = batch_queue.put("long"), batch_queue.put("s")
    assert await long == "long"
    with pytest.raises(ValueError, match="s"):
        await short
    assert read_words(database) == ["long"]


async def test_handler_with_too_few_results_commits_nothing(
    database: Database, writer: Writer
) -> None:
    def forget(connection: sa.Connection, words: Sequence[str]) -> Sequence[str]:
        insert_words(connection, words)
        return []

    with pytest.raises(AssertionError):
        await writer.create_queue(forget, durable=False).put("a")
    assert read_words(database) == []


async def test_full_disk_commits_nothing_and_raises(database: Database, writer: Writer) -> None:
    batch_queue = word_queue(writer)
    await writer.call(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=4"))
    results = await asyncio.gather(
        batch_queue.put("a"), batch_queue.put(BIG), return_exceptions=True
    )
    assert [type(result) for result in results] == [
        StorageUnavailableError,
        StorageUnavailableError,
    ]
    assert results[0] is not results[1]
    assert read_words(database) == []
    await writer.call(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=4000"))
    assert await batch_queue.put("a") == "a"


async def test_database_locked_by_another_is_unavailable_until_it_lets_go(
    database: Database, writer: Writer
) -> None:
    batch_queue = word_queue(writer)
    with database.transaction(), pytest.raises(StorageUnavailableError):
        await batch_queue.put("a")
    assert await batch_queue.put("a") == "a"


async def test_stop_commits_what_is_queued(database: Database) -> None:
    writer = Writer(database, batch_max=7)
    writer.start()
    batch_queue = word_queue(writer)
    futures = [batch_queue.put(f"{number:03}") for number in range(100)]
    await writer.stop()
    assert all(future.done() for future in futures)
    assert len(read_words(database)) == 100


async def test_put_after_stop_raises(database: Database) -> None:
    writer = Writer(database)
    writer.start()
    batch_queue = word_queue(writer)
    await writer.stop()
    await writer.stop()
    with pytest.raises(StorageUnavailableError):
        batch_queue.put("a")


async def test_overloaded_writer_refuses_items(database: Database) -> None:
    writer = Writer(database, waiting_max=3)
    writer.start()
    batch_queue = word_queue(writer)
    futures = [batch_queue.put(word) for word in "abc"]
    with pytest.raises(StorageUnavailableError):
        batch_queue.put("d")
    await asyncio.gather(*futures)
    assert await batch_queue.put("d") == "d"
    await writer.stop()


async def test_cancelled_caller_does_not_affect_others(database: Database, writer: Writer) -> None:
    batch_queue = word_queue(writer)
    gone, waiting = batch_queue.put("a"), batch_queue.put("b")
    gone.cancel()
    assert await waiting == "b"
    assert read_words(database) == ["a", "b"]


def test_loop_that_closed_early_leaves_the_work_committed(database: Database) -> None:
    release = threading.Event()
    writer = Writer(database)

    def wait(connection: sa.Connection, words: Sequence[str]) -> Sequence[str]:
        release.wait(5)
        return insert_words(connection, words)

    async def leave() -> threading.Thread:
        # A server that other tests share may have one of the same name.
        others = threading.enumerate()
        writer.start()
        writer.create_queue(wait, durable=False).put("a")
        await asyncio.sleep(0)
        (thread,) = [
            one
            for one in threading.enumerate()
            if one.name == "headgate-writer" and one not in others
        ]
        return thread

    thread = asyncio.run(leave())
    release.set()
    asyncio.run(writer.stop())
    assert not thread.is_alive()
    assert read_words(database) == ["a"]


async def test_durable_item_flushes_the_whole_batch(writer: Writer) -> None:
    modes: list[int] = []

    def note_mode(connection: sa.Connection, items: Sequence[int]) -> Sequence[int]:
        modes.append(connection.connection.cursor().execute("PRAGMA synchronous").fetchone()[0])
        return items

    relaxed, durable = (writer.create_queue(note_mode, durable=flag) for flag in (False, True))
    await relaxed.put(1)
    await asyncio.gather(relaxed.put(1), durable.put(1))
    await relaxed.put(1)
    assert modes == [1, 2, 2, 1]


async def test_failed_flush_ends_all_commits(database: Database) -> None:
    writer, lost = Writer(database), asyncio.Event()
    writer.start(lost.set)

    def fail(_connection: sa.Connection) -> None:
        error = sqlite.DRIVER.OperationalError("disk I/O error")
        error.sqlite_errorname = "SQLITE_IOERR_FSYNC"
        raise error

    with pytest.raises(StorageUnavailableError):
        await writer.call(fail)
    await lost.wait()
    with pytest.raises(StorageUnavailableError):
        await word_queue(writer).put("a")
    assert writer.health.lost
    with pytest.raises(StorageUnavailableError):
        writer.health.check()
    await writer.stop()
    assert read_words(database) == []


async def test_waiting_items_fail_with_the_item_before_them(
    database: Database, writer: Writer
) -> None:
    batch_queue = word_queue(writer)
    with database.transaction():
        futures = [batch_queue.put("first")]
        await asyncio.sleep(0)
        futures += [batch_queue.put(f"{number}") for number in range(600)]
        results = await asyncio.gather(*futures, return_exceptions=True)
    assert {type(result) for result in results} == {StorageUnavailableError}
    assert await batch_queue.put("a") == "a"
    assert writer.health.is_healthy


async def test_dead_writer_thread_is_reported(database: Database) -> None:
    writer, lost = Writer(database), asyncio.Event()
    writer.start(lost.set)
    arm("after_commit=raise", test_mode=True)
    try:
        word_queue(writer).put("a")
        await lost.wait()
    finally:
        arm()
    assert not writer.is_running
    assert writer.health.lost


async def test_write_ahead_log_is_checkpointed(database: Database) -> None:
    writer = Writer(database)
    writer.start()
    batch_queue = word_queue(writer)
    for number in range(800):
        await batch_queue.put(f"{number:04}" + BIG[:2_000])
    await writer.stop()
    assert 0 < database.wal_bytes < 24 * 1024 * 1024
    database.flush_wal()
    assert database.wal_bytes == 0


async def test_open_reader_delays_the_checkpoint_until_its_end(
    database: Database, writer: Writer
) -> None:
    batch_queue = word_queue(writer)
    await batch_queue.put("a")
    with database.reading() as connection:
        assert connection.exec_driver_sql("SELECT count(*) FROM words").scalar() == 1
        for number in range(800):
            await batch_queue.put(f"{number:04}" + BIG[:2_000])
        stuck = database.wal_bytes
    for number in range(800):
        await batch_queue.put(f"{number:04} again" + BIG[:2_000])
    assert database.wal_bytes < 1.5 * stuck
