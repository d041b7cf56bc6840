"""Speak to PostgreSQL, which several processes share (decision 0010)."""

from __future__ import annotations

import contextlib
import itertools
import secrets
import threading
import time
from collections.abc import Iterable, Mapping
from typing import Any, cast

import psycopg
import sqlalchemy as sa
from psycopg import errors
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.string import StrDumperUnknown
from sqlalchemy import exc

from headgate.kit.db.address import InvalidDatabaseUrlError
from headgate.kit.db.dialect import UnknownOutcomeError
from headgate.kit.db.locks import ACQUIRE_LOCKS, SPACE
from headgate.kit.db.schema import WRITERS

VERSION_MIN = 140_000
"""PostgreSQL 14, the oldest version that is tested."""
REQUEST_ERRORS = (
    psycopg.IntegrityError,
    psycopg.ProgrammingError,
    psycopg.DataError,
    psycopg.NotSupportedError,
)
"""Errors caused by the statement itself; all others concern the storage or the connection."""


class CommitRolledBackError(psycopg.OperationalError):
    """Report a connection cut at a commit that the server says it rolled back."""


REPEATABLE_ERRORS = (errors.DeadlockDetected, errors.SerializationFailure, CommitRolledBackError)
"""The server rolled the transaction back, mostly because of another one: a retry may succeed."""

POOLED_WAITS = 15
"""Factor on the time-out of locks for statements that are not part of a call."""
ALONE_SECONDS = 120
"""Time-out for waiting on the first start or the upgrade of another process."""
OUTCOME_SECONDS = 20.0
"""Time-out for a server to come back and tell the outcome of a commit."""
PAUSE_SECONDS = 0.1
WRITER_STATEMENTS = 1_000
"""Prepared statements kept by the writer's connection; the driver's default is 100."""

# Advisory locks, by two numbers; the first is this program's own.
ALONE, WRITING = 1, 2

_LOCK_ALONE = f"SELECT pg_advisory_xact_lock({SPACE}, {ALONE})"
_BE_WRITER = b"SELECT pg_advisory_lock_shared(%d, %d)" % (SPACE, WRITING)
_STOP_WRITING = b"SELECT pg_advisory_unlock_shared(%d, %d)" % (SPACE, WRITING)
_COUNT_WRITERS = sa.text(
    "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND granted"
    f" AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"
    f" AND classid = {SPACE} AND objid = {WRITING}"
)
_NUMBER = "SELECT pg_current_xact_id()::text"
_OLDEST = "SELECT pg_snapshot_xmin(pg_current_snapshot())::text"
_FIND_SESSION = "SELECT pid, backend_start FROM pg_stat_activity WHERE pid = pg_backend_pid()"
_END_SESSION = (
    "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE pid = %s AND backend_start = %s"
)
_ENTER = "INSERT INTO revisions (topic, value) VALUES (%s, 0) ON CONFLICT DO NOTHING"
_COUNTED = "SELECT value FROM revisions WHERE topic = %s"
_LEAVE = "DELETE FROM revisions WHERE topic = %s"


class _TextDumper(StrDumperUnknown):
    """Replace NUL by U+FFFD: texts of clients may hold it, texts of PostgreSQL may not."""

    def dump(self, obj: str) -> Any:
        return super().dump(obj.replace("\0", "\ufffd") if "\0" in obj else obj)


def is_unavailable(error: BaseException) -> bool:
    cause = error.orig if isinstance(error, exc.DBAPIError) else error
    if isinstance(cause, (UnknownOutcomeError, exc.TimeoutError)):
        return True
    return isinstance(cause, psycopg.Error) and not isinstance(cause, REQUEST_ERRORS)


class PostgreSql:
    """Speak to PostgreSQL. Waits for locks end after `wait_seconds`."""

    begin_writing = "BEGIN"
    begin_reading = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
    file_bytes = 0
    wal_bytes = 0

    def __init__(self, url: str, *, name: str, wait_seconds: float) -> None:
        self.name = name
        self.wait_milliseconds = max(1, round(wait_seconds * 1000))
        self._options = _complete(url, wait_seconds)

    def _connect(self) -> psycopg.Connection[Any]:
        connection = psycopg.connect(**self._options, autocommit=True)
        try:
            connection.adapters.register_dumper(str, _TextDumper)
            wait = self.wait_milliseconds
            connection.execute(
                b"SET lock_timeout = %d; SET statement_timeout = %d" % (wait, POOLED_WAITS * wait)
            )
        except BaseException:
            connection.close()
            raise
        return connection

    def create_engine(self) -> sa.Engine:
        """Create the pool; a pooled connection that was lost is replaced."""
        return sa.create_engine(
            "postgresql+psycopg://",
            creator=self._connect,
            paramstyle="format",
            poolclass=sa.QueuePool,
            pool_pre_ping=True,
            pool_size=2,
            max_overflow=6,
        )

    def open_writer_connection(
        self, engine: sa.Engine, *, always_flush: bool
    ) -> PostgresWriterConnection:
        """Open a connection that flushes every commit, as the server may die by itself."""
        return PostgresWriterConnection(engine, wait_milliseconds=self.wait_milliseconds)

    def is_unavailable(self, error: BaseException) -> bool:
        return is_unavailable(error)

    def find_remedy(self, error: BaseException) -> str:
        return ""

    def lock_exclusively(self, connection: sa.Connection) -> None:
        """Lock without the usual time-out: such work may take long."""
        connection.exec_driver_sql(f"SET LOCAL lock_timeout = '{ALONE_SECONDS}s'")
        connection.exec_driver_sql("SET LOCAL statement_timeout = 0")
        connection.exec_driver_sql(_LOCK_ALONE)

    def is_only_writer(self, connection: sa.Connection) -> bool:
        return connection.execute(_COUNT_WRITERS).scalar_one() <= 1

    def read_number(self, connection: sa.Connection) -> int:
        return int(connection.exec_driver_sql(_NUMBER).scalar_one())

    def read_oldest(self, connection: sa.Connection) -> int:
        return int(connection.exec_driver_sql(_OLDEST).scalar_one())

    def read_clock(self, connection: sa.Connection) -> float:
        query = sa.select(sa.func.extract("epoch", sa.func.clock_timestamp()))
        return float(connection.execute(query).scalar_one())

    def describe_fault(self, connection: sa.Connection) -> str | None:
        info = _driver_of(connection).info
        if info.server_version < VERSION_MIN:
            found, wanted = info.server_version // 10_000, VERSION_MIN // 10_000
            return f"it is PostgreSQL {found}; Headgate needs {wanted} or newer"
        encoding = info.parameter_status("server_encoding")
        if encoding != "UTF8":
            return f"its encoding is {encoding}; create it with ENCODING 'UTF8'"
        return None

    def examine(self, connection: sa.Connection) -> tuple[str | None, str]:
        """Describe the server. Finding damage is its own business (`pg_amcheck`)."""
        version = connection.exec_driver_sql("SHOW server_version").scalar_one()
        used = connection.exec_driver_sql("SELECT count(*) FROM pg_stat_activity").scalar_one()
        allowed = connection.exec_driver_sql("SHOW max_connections").scalar_one()
        text = f"PostgreSQL {version}, {used} of {allowed} connections in use"
        return self.describe_fault(connection), text

    def flush_wal(self, connection: sa.Connection) -> None:
        """Do nothing: the server manages its log, and ends when a flush fails."""


class PostgresWriterConnection:
    """Reconnect when the connection was lost, and find out what was committed.

    Each transaction increments a counter in this writer's own row, so after a cut the row tells
    what was committed. (The server's transaction numbers would not: after a crash it reuses those
    whose transactions had not reached its disk.)
    """

    needs_locks = True

    def __init__(self, engine: sa.Engine, *, wait_milliseconds: int) -> None:
        self._engine = engine
        self._wait_milliseconds = wait_milliseconds
        self._topic = f"{WRITERS}{secrets.token_hex(8)}"
        self._count = 0
        self._open()
        try:
            self._cursor.execute(_ENTER, (self._topic,))
        except BaseException:
            self._drop()
            raise

    def _open(self) -> None:
        self.connection = self._engine.connect().execution_options(own_transaction=True)
        try:
            self._driver = _driver_of(self.connection)
            # What is set for its session must not come back to the pool.
            self.connection.detach()
            self._driver.prepared_max = WRITER_STATEMENTS
            self._cursor = self._driver.cursor()
            wait = self._wait_milliseconds
            # A process that stops inside a transaction must not keep the others waiting for long.
            self._cursor.execute(
                b"SET statement_timeout = %d; SET idle_in_transaction_session_timeout = %d; %b"
                % (wait, 2 * wait, _BE_WRITER)
            )
            self._session = self._cursor.execute(_FIND_SESSION).fetchone()
        except BaseException:
            self.connection.close()
            raise

    def _reopen(self) -> None:
        self._drop()
        self._open()

    def begin(self, *, durable: bool) -> None:
        """Begin, on a new connection if the last one was lost."""
        if self._driver.closed:
            self._reopen()
        self._cursor.execute("BEGIN")

    def acquire_locks(self, names: Iterable[str]) -> None:
        listed = list(names)
        if listed:
            self._cursor.execute(ACQUIRE_LOCKS.encode(), (listed,))

    def commit(self) -> None:
        """Commit; if the connection is cut meanwhile, ask the server for the outcome.

        Raise `CommitRolledBackError` if nothing was committed, so that it may be retried, and
        `UnknownOutcomeError`.
        """
        self._count += 1
        try:
            self._cursor.execute(
                b"UPDATE revisions SET value = %d WHERE topic = '%b'; COMMIT"
                % (self._count, self._topic.encode()),
                # Its text is new every time: counting it would push out what is used again.
                prepare=False,
            )
        except psycopg.Error as error:
            if not self._driver.closed:
                raise
            if not self._find_outcome(error):
                raise CommitRolledBackError(str(error)) from error

    def _find_outcome(self, error: psycopg.Error) -> bool:
        """Return whether the transaction was committed. Raise `UnknownOutcomeError`."""
        deadline, session = time.monotonic() + OUTCOME_SECONDS, self._session
        while time.monotonic() < deadline:
            with contextlib.suppress(psycopg.Error, exc.SQLAlchemyError):
                if self._driver.closed:
                    self._reopen()
                # The server may not know of the cut yet, and still be about to commit.
                if self._cursor.execute(_END_SESSION, session).fetchone() is None:
                    counted = self._cursor.execute(_COUNTED, (self._topic,)).fetchone()
                    return counted is not None and counted[0] >= self._count
            threading.Event().wait(PAUSE_SECONDS)
        raise UnknownOutcomeError(f"It is not known whether a commit succeeded: {error}") from error

    def roll_back(self) -> None:
        with contextlib.suppress(psycopg.Error):
            if self._driver.info.transaction_status is not psycopg.pq.TransactionStatus.IDLE:
                self._cursor.execute("ROLLBACK")

    def prepare_retry(self, error: BaseException) -> bool:
        """Retry after a lost connection, and after a transaction undone because of another one."""
        cause = error.orig if isinstance(error, exc.DBAPIError) else error
        if isinstance(cause, REPEATABLE_ERRORS):
            return True
        if isinstance(cause, UnknownOutcomeError) or not self._driver.closed:
            return False
        with contextlib.suppress(psycopg.Error, exc.SQLAlchemyError):
            self._reopen()
            return True
        return False

    def find_replaced(self) -> None:
        """Return None: the files are the server's business."""
        return

    def examine_files(self) -> None:
        """Return None: the files are the server's business."""
        return

    def checkpoint(self) -> int:
        """Return 0: checkpoints are the server's business."""
        return 0

    def is_unavailable(self, error: BaseException) -> bool:
        return is_unavailable(error)

    def is_lost(self, error: BaseException) -> bool:
        """Return False: a server whose flush fails ends, and recovers from its disk by itself."""
        return False

    def close(self) -> None:
        with contextlib.suppress(psycopg.Error):
            self._cursor.execute(_LEAVE, (self._topic,))
            # The server notices a closed connection only later, and counts its locks until then.
            self._cursor.execute(_STOP_WRITING)
        self._drop()

    def _drop(self) -> None:
        with contextlib.suppress(exc.SQLAlchemyError, psycopg.Error):
            if self._driver.closed:
                self.connection.invalidate()
            self.connection.close()
        self._driver.close()


def _driver_of(connection: sa.Connection) -> psycopg.Connection[Any]:
    return cast("psycopg.Connection[Any]", connection.connection.driver_connection)


def parse_url(url: str) -> dict[str, Any]:
    """Return the options of a URL by PostgreSQL's names. Raise `InvalidDatabaseUrlError`."""
    try:
        return conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        # Its own words would repeat the URL, password and all.
        message = "HEADGATE_DATABASE_URL holds an option that PostgreSQL's driver does not know."
        raise InvalidDatabaseUrlError(message, param="database_url") from None


def _complete(url: str, wait_seconds: float) -> Mapping[str, Any]:
    options = parse_url(url)
    ours = {
        "application_name": "headgate",
        "connect_timeout": max(2, round(wait_seconds)),
        # Of a network that swallows everything the system would tell only after minutes.
        "tcp_user_timeout": round(3000 * wait_seconds),
        "keepalives_idle": 10,
        "keepalives_interval": 5,
        "keepalives_count": 3,
    }
    return dict(itertools.chain(ours.items(), options.items()))
