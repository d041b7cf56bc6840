"""Opens the database and hands out connections and transactions."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
from sqlalchemy import event, exc

from headgate.kit.db import sqlite
from headgate.kit.errors import HeadgateError, Kind


class StorageUnavailable(HeadgateError):
    """The database could not do it: full, locked, gone. Nothing of the operation was kept."""

    kind = Kind.UNAVAILABLE
    code = "storage_unavailable"


class Database:
    """One database of one installation.

    SQLite files use WAL and begin every writing transaction with the write lock, so that a read
    inside it cannot go stale. Commits are flushed to the disk (durable over power loss where it
    honours that), but for those that say they need not be; `always_flush` leaves no exception.
    """

    def __init__(
        self, path: Path, *, busy_timeout_seconds: float = 5.0, always_flush: bool = False
    ) -> None:
        self.path = path
        self._always_flush = always_flush
        self._busy_timeout_seconds = busy_timeout_seconds
        self.engine = sa.create_engine(
            "sqlite://",
            module=sqlite.DRIVER,
            creator=self._connect,
            poolclass=sa.QueuePool,
            pool_size=2,
            max_overflow=6,
        )
        event.listen(self.engine, "begin", _begin)

    def _connect(self) -> Any:
        return sqlite.connect(self.path, busy_timeout_seconds=self._busy_timeout_seconds)

    @contextlib.contextmanager
    def transaction(self) -> Generator[sa.Connection]:
        """A transaction that commits at the end of the block and rolls back on any error."""
        try:
            with self.engine.begin() as connection:
                yield connection
        except exc.DBAPIError as error:
            if not is_unavailable(error):
                raise
            raise StorageUnavailable(f"The database refused: {error.orig}") from error

    @contextlib.contextmanager
    def reading(self) -> Generator[sa.Connection]:
        """A connection for reads only; it takes no write lock."""
        try:
            with self.engine.connect() as connection:
                yield connection.execution_options(reading=True)
        except exc.DBAPIError as error:
            if not is_unavailable(error):
                raise
            raise StorageUnavailable(f"The database refused: {error.orig}") from error

    def keep(self) -> KeptConnection:
        """A connection of its own for one thread that commits often. Raises StorageUnavailable."""
        try:
            connection = self.engine.connect().execution_options(own_transaction=True)
        except exc.DBAPIError as error:
            raise StorageUnavailable(f"The database refused: {error.orig}") from error
        return KeptConnection(connection, always_flush=self._always_flush)

    @property
    def file_bytes(self) -> int:
        """The length of the database's file; 0 where there is none."""
        return _measure(self.path)

    @property
    def wal_bytes(self) -> int:
        """The length of the write-ahead log's file; 0 where there is none."""
        return _measure(self.path.with_name(f"{self.path.name}-wal"))

    def settle_wal(self) -> None:
        """Bring what an earlier process left in the write-ahead log into the database, flushed.

        Its flushes may have failed; written anew and flushed here, its content is on the disk for
        certain. Raises StorageUnavailable.
        """
        with self.reading() as connection:
            connection.rollback()
            kept = connection.connection.cursor()
            kept.execute("PRAGMA wal_checkpoint(TRUNCATE)")

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _measure(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _begin(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("own_transaction", False):
        connection.exec_driver_sql("BEGIN" if options.get("reading", False) else "BEGIN IMMEDIATE")


def is_unavailable(error: BaseException) -> bool:
    """Whether an error of the database is about its storage, not about what was asked of it."""
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return isinstance(cause, sqlite.DRIVER.DatabaseError) and not isinstance(
        cause, sqlite.REQUEST_ERRORS
    )


def is_lost(error: BaseException) -> bool:
    """Whether an error leaves open what the disk has: an I/O error, as of a flush, or damage.

    The system reports a failed flush once, and may have dropped what it could not write: a second
    flush that succeeds proves nothing of the first.
    """
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    return str(getattr(cause, "sqlite_errorname", "")).startswith(sqlite.LOST_ERRORS)


class KeptConnection:
    """A connection that is kept for long, with transactions at the least cost per use.

    `durable` commits are flushed to the disk before they return; the others reach it with the
    next flush: they survive the death of the process, not always the loss of power.
    """

    def __init__(self, connection: sa.Connection, *, always_flush: bool) -> None:
        self.connection = connection
        self._execute = connection.connection.cursor().execute
        # Its own checkpoints are explicit: those inside of a commit hide their errors.
        self._execute("PRAGMA wal_autocheckpoint=0")
        self._always_flush = always_flush
        self._flushes: bool | None = None

    def begin(self, *, durable: bool) -> None:
        """Take the write lock."""
        flushes = durable or self._always_flush
        if flushes is not self._flushes:
            self._execute(f"PRAGMA synchronous={'FULL' if flushes else 'NORMAL'}")
            self._flushes = flushes
        self._execute("BEGIN IMMEDIATE")

    def commit(self) -> None:
        """Keep everything since `begin`."""
        self._execute("COMMIT")

    def checkpoint(self) -> int:
        """Bring the write-ahead log into the database, as far as no reader needs it; outside of
        a transaction. How many of its pages are left."""
        self._execute("PRAGMA synchronous=FULL")
        self._flushes = True
        _, pages, moved = self._execute("PRAGMA wal_checkpoint(PASSIVE)").fetchone()
        return max(0, pages - moved)

    def roll_back(self) -> None:
        """Keep nothing since `begin`; also right when the transaction is gone already."""
        # After a full disk SQLite has rolled back by itself and refuses to do it twice.
        with contextlib.suppress(sqlite.DRIVER.OperationalError):
            self._execute("ROLLBACK")

    def close(self) -> None:
        """Give the connection back."""
        self.connection.close()
