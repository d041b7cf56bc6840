"""Opens the database and hands out connections and transactions."""

from __future__ import annotations

import contextlib
from collections.abc import Generator
from pathlib import Path
from typing import Any

import sqlalchemy as sa
import structlog
from sqlalchemy import event, exc

from headgate.kit.db import sqlite
from headgate.kit.errors import HeadgateError, Kind

log = structlog.get_logger(__name__)


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
        except exc.OperationalError as error:
            raise StorageUnavailable(f"The database refused: {error.orig}") from error

    @contextlib.contextmanager
    def reading(self) -> Generator[sa.Connection]:
        """A connection for reads only; it takes no write lock."""
        try:
            with self.engine.connect() as connection:
                yield connection.execution_options(reading=True)
        except exc.OperationalError as error:
            raise StorageUnavailable(f"The database refused: {error.orig}") from error

    @contextlib.contextmanager
    def own_transaction(self, connection: sa.Connection, *, durable: bool) -> Generator[None]:
        """A transaction on a connection that is kept for long, at the least cost per use.

        `connection` carries the execution option `own_transaction`. `durable` commits are flushed
        to the disk before they return; the others reach it with the next flush (decision 0003).
        """
        execute = connection.connection.cursor().execute
        mode = "FULL" if durable or self._always_flush else "NORMAL"
        try:
            if connection.info.get("synchronous") != mode:
                execute(f"PRAGMA synchronous={mode}")
                connection.info["synchronous"] = mode
            execute("BEGIN IMMEDIATE")
            try:
                yield
                execute("COMMIT")
            except BaseException:
                _roll_back(connection)
                raise
        except (exc.OperationalError, sqlite.DRIVER.OperationalError) as error:
            log.error("storage.refused", error=str(error))
            raise StorageUnavailable(
                "The database could not store this; nothing was kept."
            ) from error

    def close(self) -> None:
        """Close every pooled connection."""
        self.engine.dispose()


def _begin(connection: sa.Connection) -> None:
    options = connection.get_execution_options()
    if not options.get("own_transaction", False):
        connection.exec_driver_sql("BEGIN" if options.get("reading", False) else "BEGIN IMMEDIATE")


def _roll_back(connection: sa.Connection) -> None:
    # After a full disk SQLite has rolled back by itself and refuses to do it twice.
    with contextlib.suppress(sqlite.DRIVER.OperationalError):
        connection.connection.cursor().execute("ROLLBACK")
