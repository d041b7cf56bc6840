"""Open SQLite files, and tell which library is linked and whether its WAL mode is safe.

SQLite 3.7.0 to 3.51.2 can corrupt a WAL database when two connections write and checkpoint at the
same instant (fixed in 3.51.3). Where only such a version is to be had, the journal is a plain one.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any
from urllib.parse import quote

import sqlalchemy as sa
from sqlalchemy import exc

from headgate.kit.db.files import OpenFiles

WAL_SAFE_VERSION = (3, 51, 3)


def _choose_driver() -> Any:
    if importlib.util.find_spec("pysqlite3") is not None:
        return importlib.import_module("pysqlite3.dbapi2")
    return importlib.import_module("sqlite3.dbapi2")


DRIVER: Any = _choose_driver()
VERSION: str = DRIVER.sqlite_version
WAL_SAFE = tuple(int(part) for part in VERSION.split(".")) >= WAL_SAFE_VERSION
REQUEST_ERRORS: tuple[type[Exception], ...] = (
    DRIVER.IntegrityError,
    DRIVER.ProgrammingError,
    DRIVER.DataError,
    DRIVER.NotSupportedError,
)
"""Errors caused by the statement itself; every other `DatabaseError` is the storage's."""
DAMAGE_ERRORS = ("SQLITE_CORRUPT", "SQLITE_NOTADB")
LOST_ERRORS = ("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB")
"""Beginnings of the names of errors after which it is not known what the disk has. The driver does
not tell a flush that failed from another failed operation, so every I/O error counts; a disk that
is full (SQLITE_FULL) or a lock (SQLITE_BUSY) is none."""
WAL_BYTES_KEPT = 64 * 1024 * 1024
"""A longer write-ahead log is truncated to this once all of it is in the database."""
JOURNAL_MODE = "wal" if WAL_SAFE else "delete"
POOLED_STATEMENTS = 100
WRITER_STATEMENTS = 1_000
"""How many parsed statements a connection keeps. The driver drops the least used one of a full
cache, which is always the newest: a cache that is full of other statements parses it every time."""


def connect(
    path: Path, *, busy_timeout_seconds: float, statements_max: int = POOLED_STATEMENTS
) -> Any:
    """Open a DB-API connection in autocommit mode, with the pragmas for durable commits."""
    connection = DRIVER.connect(
        str(path),
        timeout=busy_timeout_seconds,
        isolation_level=None,
        check_same_thread=False,
        cached_statements=statements_max,
    )
    cursor = connection.cursor()
    cursor.execute(f"PRAGMA journal_mode={JOURNAL_MODE}")
    cursor.execute("PRAGMA synchronous=FULL")
    cursor.execute("PRAGMA foreign_keys=ON")
    cursor.execute("PRAGMA temp_store=MEMORY")
    cursor.execute("PRAGMA wal_autocheckpoint=4000")
    cursor.execute(f"PRAGMA journal_size_limit={WAL_BYTES_KEPT}")
    cursor.close()
    return connection


def is_unavailable(error: BaseException) -> bool:
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return isinstance(cause, DRIVER.DatabaseError) and not isinstance(cause, REQUEST_ERRORS)


def is_lost(error: BaseException) -> bool:
    """Return whether it is unknown what the disk has: after an I/O error or damage.

    The system reports a failed flush once and may have dropped the data: a second flush that
    succeeds proves nothing about the first.
    """
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return str(getattr(cause, "sqlite_errorname", "")).startswith(LOST_ERRORS)


def copy_into(connection: sa.Connection, path: Path) -> None:
    """Write a copy of a database, as of one moment, to a new file. Others may read and write
    meanwhile. The connection must be outside of a transaction."""
    connection.connection.cursor().execute("VACUUM INTO ?", (str(path),))


def open_copy(path: Path) -> sa.Engine:
    """Open a file that nobody writes to, without creating files beside it."""
    place = quote(os.path.abspath(path))

    def connect_copy() -> Any:
        return DRIVER.connect(f"file:{place}?mode=ro&immutable=1", uri=True, isolation_level=None)

    return sa.create_engine("sqlite://", module=DRIVER, creator=connect_copy, poolclass=sa.NullPool)


def find_damage(connection: sa.Connection) -> str | None:
    """Return what is wrong with any page, index or reference; None for a sound database."""
    for check in ("integrity_check(1)", "foreign_key_check"):
        row = connection.exec_driver_sql(f"PRAGMA {check}").first()
        if row is not None and row[0] != "ok":
            return " ".join(map(str, row))
    return None


class Sqlite:
    """Speak to an SQLite file of one process; commands may use it at the same time."""

    begin_writing = "BEGIN IMMEDIATE"
    """Takes the write lock at once, so that no read inside is outdated."""
    begin_reading = "BEGIN"

    def __init__(self, path: Path, *, wait_seconds: float) -> None:
        self.path = path
        self.name = str(path)
        self._wait_seconds = wait_seconds

    def _connect(self) -> Any:
        return connect(self.path, busy_timeout_seconds=self._wait_seconds)

    def _connect_writer(self) -> Any:
        return connect(
            self.path,
            busy_timeout_seconds=self._wait_seconds,
            statements_max=WRITER_STATEMENTS,
        )

    def create_engine(self) -> sa.Engine:
        return sa.create_engine(
            "sqlite://",
            module=DRIVER,
            creator=self._connect,
            poolclass=sa.QueuePool,
            pool_size=2,
            max_overflow=6,
        )

    def open_writer_connection(
        self, engine: sa.Engine, *, always_flush: bool
    ) -> SqliteWriterConnection:
        """Open a connection outside of the pool. A pooled one may have created the tables, and then
        its statement cache is full of that."""
        own = sa.create_engine(
            "sqlite://", module=DRIVER, creator=self._connect_writer, poolclass=sa.NullPool
        )
        connection = own.connect().execution_options(own_transaction=True)
        return SqliteWriterConnection(connection, self.path, always_flush=always_flush)

    def is_unavailable(self, error: BaseException) -> bool:
        return is_unavailable(error)

    def find_remedy(self, error: BaseException) -> str:
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        if str(getattr(cause, "sqlite_errorname", "")).startswith(DAMAGE_ERRORS):
            return "Stop the server and restore the last backup: docs/backup.md."
        return ""

    def lock_exclusively(self, connection: sa.Connection) -> None:
        """Do nothing: every writing transaction of SQLite is exclusive."""

    def is_only_writer(self, connection: sa.Connection) -> bool:
        """Return True: a lock on the data directory keeps a second server out."""
        return True

    def read_number(self, connection: sa.Connection) -> None:
        """Return None: a transaction that writes is alone."""
        return

    def read_oldest(self, connection: sa.Connection) -> int:
        return 0

    def read_clock(self, connection: sa.Connection) -> None:
        """Return None: the process's own clock is the only one."""
        return

    def describe_fault(self, connection: sa.Connection) -> None:
        return

    def examine(self, connection: sa.Connection) -> tuple[str | None, str]:
        result = str(connection.exec_driver_sql("PRAGMA quick_check").scalar_one())
        mode = str(connection.exec_driver_sql("PRAGMA journal_mode").scalar_one())
        return None if result == "ok" else result, f"journal mode {mode}"

    def flush_wal(self, connection: sa.Connection) -> None:
        connection.rollback()
        connection.connection.cursor().execute("PRAGMA wal_checkpoint(TRUNCATE)")

    @property
    def file_bytes(self) -> int:
        return _measure(self.path)

    @property
    def wal_bytes(self) -> int:
        return _measure(self.path.with_name(f"{self.path.name}-wal"))


def _measure(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


class SqliteWriterConnection:
    """Commit with or without a flush; what is not flushed survives the process only."""

    needs_locks = False

    def __init__(self, connection: sa.Connection, path: Path, *, always_flush: bool) -> None:
        self.connection = connection
        self._execute = connection.connection.cursor().execute
        # The first read opens the write-ahead log.
        self._execute("SELECT count(*) FROM sqlite_master").fetchall()
        self._files = OpenFiles(path)
        self.find_replaced = self._files.find_replaced
        # Its own checkpoints are explicit: those inside of a commit hide their errors.
        self._execute("PRAGMA wal_autocheckpoint=0")
        self._always_flush = always_flush
        self._flushes: bool | None = None

    def begin(self, *, durable: bool) -> None:
        flushes = durable or self._always_flush
        if flushes is not self._flushes:
            self._execute(f"PRAGMA synchronous={'FULL' if flushes else 'NORMAL'}")
            self._flushes = flushes
        self._execute("BEGIN IMMEDIATE")

    def acquire_locks(self, names: Iterable[str]) -> None:
        """Do nothing: there is only the one write lock."""

    def commit(self) -> None:
        self._execute("COMMIT")

    def roll_back(self) -> None:
        # After a full disk SQLite has rolled back by itself and refuses to do it twice.
        with contextlib.suppress(DRIVER.OperationalError):
            self._execute("ROLLBACK")

    def prepare_retry(self, error: BaseException) -> bool:
        """Return False: a file does not come back by itself."""
        return False

    def examine_files(self) -> str | None:
        return self._files.examine()

    def checkpoint(self) -> int:
        self._execute("PRAGMA synchronous=FULL")
        self._flushes = True
        _, pages, moved = self._execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return max(0, pages - moved)

    def is_unavailable(self, error: BaseException) -> bool:
        return is_unavailable(error)

    def is_lost(self, error: BaseException) -> bool:
        return is_lost(error)

    def close(self) -> None:
        self.connection.close()
