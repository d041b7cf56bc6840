"""Open the database and hand out connections and transactions."""

from __future__ import annotations

import contextlib
import importlib
import threading
import time
from collections.abc import Generator
from pathlib import Path

import sqlalchemy as sa
from sqlalchemy import event

from headgate.kit.db.address import name_database
from headgate.kit.db.dialect import Dialect, WriterConnection
from headgate.kit.db.sqlite import Sqlite
from headgate.kit.errors import HeadgateError, Kind

POSTGRESQL = "headgate.kit.db.postgresql"
"""Imported only when used, as its driver may not be installed."""
EARLIER_WRITES_SECONDS = 5.0
EARLIER_WRITES_POLL_SECONDS = 0.005


class StorageUnavailableError(HeadgateError):
    """The database is full, locked or unreachable. Nothing was kept, nothing was charged.

    Try again; `headgate doctor` tells an operator what is wrong.
    """

    kind = Kind.UNAVAILABLE
    code = "storage_unavailable"


class DriverNotInstalledError(HeadgateError):
    """The driver of the database is not installed.

    Install `headgate[postgres]`.
    """

    kind = Kind.INVALID
    code = "driver_missing"


class Database:
    """Open the SQLite file at a path, or PostgreSQL at a URL.

    A reading block sees one state of the database throughout. A writing one in SQLite holds the
    write lock from its begin; in PostgreSQL it sees what is committed at each statement, so what
    must be exact is one conditional statement.

    Commits are flushed to the disk, except those that ask not to be; `always_flush` leaves no
    exception. Raise `InvalidDatabaseUrlError` and `DriverNotInstalledError`.
    """

    def __init__(
        self, place: Path | str, *, busy_timeout_seconds: float = 5.0, always_flush: bool = False
    ) -> None:
        self.place = place
        self.dialect = _choose_dialect(place, busy_timeout_seconds)
        self._always_flush = always_flush
        self.engine = self.dialect.create_engine()
        event.listen(self.engine, "begin", self._begin)

    def _begin(self, connection: sa.Connection) -> None:
        options = connection.get_execution_options()
        if not options.get("own_transaction", False):
            reading = options.get("reading", False)
            connection.exec_driver_sql(
                self.dialect.begin_reading if reading else self.dialect.begin_writing
            )

    @property
    def name(self) -> str:
        """Return the path, or the URL without user and password."""
        return self.dialect.name

    @property
    def path(self) -> Path:
        assert isinstance(self.place, Path), "the database is no file"
        return self.place

    @contextlib.contextmanager
    def transaction(self, *, exclusive: bool = False) -> Generator[sa.Connection]:
        """Commit at the end of the block, roll back on any error. With `exclusive`, no other such
        block of any process runs at the same time."""
        with self._refusing(), self.engine.begin() as connection:
            if exclusive:
                self.dialect.lock_exclusively(connection)
            yield connection

    @contextlib.contextmanager
    def reading(self) -> Generator[sa.Connection]:
        """Open a connection for reads only; it takes no write lock."""
        with self._refusing(), self.engine.connect() as connection:
            yield connection.execution_options(reading=True)

    def open_writer_connection(self) -> WriterConnection:
        """Open a connection for one thread that commits often. Raise `StorageUnavailableError`."""
        with self._refusing():
            return self.dialect.open_writer_connection(self.engine, always_flush=self._always_flush)

    @contextlib.contextmanager
    def _refusing(self) -> Generator[None]:
        try:
            yield
        except Exception as error:
            if not self.dialect.is_unavailable(error):
                raise
            cause = getattr(error, "orig", None) or error
            message, remedy = f"The database refused: {cause}", self.dialect.find_remedy(error)
            if remedy:
                message = f"{message}. {remedy}"
            raise StorageUnavailableError(message.strip()) from error

    def read_clock(self) -> float | None:
        """Return Unix seconds by a clock that all processes share; None for a single process."""
        with self.reading() as connection:
            return self.dialect.read_clock(connection)

    def wait_for_earlier_writes(self, timeout_seconds: float = EARLIER_WRITES_SECONDS) -> bool:
        """Wait until all transactions of any process have ended that had written something before;
        blocks. Return False if some have not ended in time.

        A transaction whose first write comes later sees everything that is committed by now.
        """
        with self.reading() as connection:
            number = self.dialect.read_number(connection)
        deadline = time.monotonic() + timeout_seconds
        while number is not None and self._read_oldest() < number:
            if time.monotonic() > deadline:
                return False
            threading.Event().wait(EARLIER_WRITES_POLL_SECONDS)
        return True

    def _read_oldest(self) -> int:
        with self.reading() as connection:
            return self.dialect.read_oldest(connection)

    @property
    def file_bytes(self) -> int:
        """Return the size of the database's file; 0 where there is none."""
        return self.dialect.file_bytes

    @property
    def wal_bytes(self) -> int:
        """Return the size of the write-ahead log; 0 where there is none."""
        return self.dialect.wal_bytes

    @property
    def connections_open(self) -> int:
        """Return the number of pooled connections, in use or not."""
        pool = self.engine.pool
        assert isinstance(pool, sa.QueuePool)
        return pool.checkedin() + pool.checkedout()

    def flush_wal(self) -> None:
        """Move what an earlier process left in the write-ahead log into the database, flushed.

        Its own flushes may have failed; written again and flushed here, the content is on the disk
        for certain. Raise `StorageUnavailableError`.
        """
        with self.reading() as connection:
            self.dialect.flush_wal(connection)

    def close(self) -> None:
        self.engine.dispose()


def _choose_dialect(place: Path | str, wait_seconds: float) -> Dialect:
    if isinstance(place, Path):
        return Sqlite(place, wait_seconds=wait_seconds)
    name = name_database(place)
    try:
        postgresql = importlib.import_module(POSTGRESQL)
    except ImportError as error:
        message = f"The driver of PostgreSQL is missing ({error}): pip install 'headgate[postgres]'"
        raise DriverNotInstalledError(message) from error
    return postgresql.PostgreSql(place, name=name, wait_seconds=wait_seconds)
