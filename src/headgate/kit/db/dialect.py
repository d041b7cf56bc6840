"""Define the interface between `Database` and `Writer` and each kind of database."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import sqlalchemy as sa


class WriterConnection(Protocol):
    """Hold a long-lived connection with transactions at the least cost per use.

    `durable` commits are flushed to the disk before they return; the others survive the death of
    this process, and reach the disk with the next flush.
    """

    connection: sa.Connection
    needs_locks: bool
    """Whether other processes write at the same time, so that `acquire_locks` is needed."""

    def begin(self, *, durable: bool) -> None: ...

    def acquire_locks(self, names: Iterable[str]) -> None:
        """Wait, inside the transaction, for other processes' transactions on the same names.

        All names of a transaction are locked at once and in one order, so that there is no
        deadlock.
        """
        ...

    def commit(self) -> None:
        """Commit everything since `begin`. Raise `UnknownOutcomeError`."""
        ...

    def roll_back(self) -> None:
        """Undo everything since `begin`; do nothing if the transaction has ended already."""
        ...

    def prepare_retry(self, error: BaseException) -> bool:
        """Reconnect if needed after a transaction was rolled back; return whether to retry it."""
        ...

    def find_replaced(self) -> str | None:
        """Return what happened to a file that holds commits, None while each is in its place.

        What is committed to a replaced file is lost with this process. Called after every commit,
        so it has to be cheap.
        """
        ...

    def examine_files(self) -> str | None:
        """Do what `find_replaced` does, for files that hold no commits as well."""
        ...

    def checkpoint(self) -> int:
        """Move the write-ahead log into the database as far as no reader needs it. Call it outside
        of a transaction. Return the number of pages left in the log."""
        ...

    def is_unavailable(self, error: BaseException) -> bool: ...

    def is_lost(self, error: BaseException) -> bool:
        """Return whether it is unknown what the disk has: only a new process may go on."""
        ...

    def close(self) -> None: ...


class Dialect(Protocol):
    name: str
    """A path, or an address without user and password."""
    begin_writing: str
    begin_reading: str

    def create_engine(self) -> sa.Engine:
        """Create the connection pool; its connections begin no transaction by themselves."""
        ...

    def open_writer_connection(self, engine: sa.Engine, *, always_flush: bool) -> WriterConnection:
        """Open a connection outside of the pool."""
        ...

    def is_unavailable(self, error: BaseException) -> bool:
        """Return whether an error concerns the storage and not the statement."""
        ...

    def find_remedy(self, error: BaseException) -> str:
        """Say what helps against an error of the storage; empty where nothing is known."""
        ...

    def lock_exclusively(self, connection: sa.Connection) -> None:
        """Keep other processes out of such transactions until this one ends."""
        ...

    def is_only_writer(self, connection: sa.Connection) -> bool:
        """Return whether no other process has a connection to write with."""
        ...

    def read_number(self, connection: sa.Connection) -> int | None:
        """Return the number of this transaction, which is greater than those of all that have
        written something; None where transactions that write run one after the other."""
        ...

    def read_oldest(self, connection: sa.Connection) -> int:
        """Return a number below which all transactions have ended."""
        ...

    def read_clock(self, connection: sa.Connection) -> float | None:
        """Return Unix seconds by a clock that all processes share; None for a single process."""
        ...

    def describe_fault(self, connection: sa.Connection) -> str | None:
        """Return why this database cannot be used at all; None when it can."""
        ...

    def examine(self, connection: sa.Connection) -> tuple[str | None, str]:
        """Return the damage that was found, if any, and a description of the database."""
        ...

    def flush_wal(self, connection: sa.Connection) -> None: ...

    @property
    def file_bytes(self) -> int: ...

    @property
    def wal_bytes(self) -> int: ...


class UnknownOutcomeError(Exception):
    """Report a connection that was cut during a commit whose outcome nobody knows.

    Only work that has the same result when it is done twice may be tried again.
    """
