"""Files of a database that are deleted, moved or replaced while it is open."""

from __future__ import annotations

import shutil
from collections.abc import AsyncGenerator, Callable, Sequence
from pathlib import Path

import pytest
import sqlalchemy as sa

from headgate.kit.db import sqlite
from headgate.kit.db.engine import Database, StorageUnavailableError
from headgate.kit.db.writer import Writer

pytestmark = pytest.mark.anyio
NAME = "test.db"


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "data"
    folder.mkdir()
    database = Database(folder / NAME)
    with database.transaction() as connection:
        connection.exec_driver_sql("CREATE TABLE words (word TEXT PRIMARY KEY)")
    database.close()
    return folder


@pytest.fixture
async def writer(folder: Path) -> AsyncGenerator[Writer]:
    database = Database(folder / NAME)
    writer = Writer(database)
    writer.start()
    yield writer
    await writer.stop()
    database.close()


def insert_words(connection: sa.Connection, words: Sequence[str]) -> Sequence[str]:
    connection.connection.cursor().executemany(
        "INSERT INTO words VALUES (?)", [(word,) for word in words]
    )
    return words


def delete_database(folder: Path) -> None:
    (folder / NAME).unlink()


def delete_everything(folder: Path) -> None:
    shutil.rmtree(folder)


def replace_database(folder: Path) -> None:
    shutil.copy(folder / NAME, folder / "other")
    (folder / "other").replace(folder / NAME)


def delete_log(folder: Path) -> None:
    (folder / f"{NAME}-wal").unlink()


def replace_folder(folder: Path) -> None:
    shutil.copytree(folder, folder.with_name("restored"))
    folder.rename(folder.with_name("old"))
    folder.with_name("restored").rename(folder)


@pytest.mark.skipif(not sqlite.WAL_SAFE, reason="no write-ahead log here")
@pytest.mark.parametrize(
    "damage",
    [delete_database, delete_everything, replace_database, delete_log, replace_folder],
)
async def test_commit_to_a_displaced_file_is_not_acknowledged(
    folder: Path, writer: Writer, damage: Callable[[Path], None]
) -> None:
    words = writer.create_queue(insert_words, durable=False)
    assert await words.put("before") == "before"
    assert writer.health.is_healthy
    damage(folder)
    for word in ("after", "and for good"):
        with pytest.raises(StorageUnavailableError):
            await words.put(word)
    assert writer.health.lost
    assert writer.health.displaced
    told = writer.health.describe() or ""
    assert str(folder / NAME) in told
    assert "deleted or moved" in told or "was replaced" in told


@pytest.mark.skipif(not sqlite.WAL_SAFE, reason="no write-ahead log here")
@pytest.mark.parametrize("suffix", ["", "-wal", "-shm"])
async def test_deleted_file_is_noticed_without_a_commit(
    folder: Path, writer: Writer, suffix: str
) -> None:
    await writer.examine_files()
    assert writer.health.is_healthy
    (folder / f"{NAME}{suffix}").unlink()
    await writer.examine_files()
    assert writer.health.displaced
    assert f"{NAME}{suffix} was deleted or moved" in writer.health.reason


async def test_last_connection_can_rescue_committed_data(folder: Path) -> None:
    rescued: list[str] = []
    lost: list[bool] = []

    def rescue(connection: sa.Connection) -> None:
        rescued.extend(connection.exec_driver_sql("SELECT word FROM words").scalars())

    database = Database(folder / NAME)
    writer = Writer(database)
    writer.start(lambda: lost.append(True), rescue=rescue)
    words = writer.create_queue(insert_words, durable=False)
    await words.put("kept")
    shutil.rmtree(folder)
    with pytest.raises(StorageUnavailableError):
        await words.put("withheld")
    await writer.stop()
    database.close()
    assert lost == [True]
    assert "kept" in rescued


async def test_database_behind_a_symlink_is_watched(folder: Path, tmp_path: Path) -> None:
    link = tmp_path / "linked.db"
    link.symlink_to(folder / NAME)
    database = Database(link)
    writer = Writer(database)
    writer.start()
    words = writer.create_queue(insert_words, durable=False)
    await words.put("before")
    link.unlink()
    link.symlink_to(tmp_path / "elsewhere.db")
    with pytest.raises(StorageUnavailableError):
        await words.put("after")
    await writer.stop()
    database.close()
