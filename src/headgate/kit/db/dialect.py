"""What differs between the databases that Headgate runs on; `Database` and `Writer` do the rest."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import sqlalchemy as sa


class WriterConnection(Protocol):
    """A connection that is kept for long, with transactions at the least cost per use.

    `durable` commits are flushed to the disk before they return; the others survive the death of
    this process, and reach the disk with the next flush.
    """

    connection: sa.Connection
    needs_locks: bool
    """Whether other processes write at the same time, so that `acquire_locks` is needed."""

    def begin(self, *, durable: bool) -> None:
        """Begin a transaction that writes."""
        ...

    def acquire_locks(self, names: Iterable[str]) -> None:
        """Wait, inside the transaction, for other processes' transactions on the same names.

        All names of a transaction are taken at once and in one order, so nobody waits in a ring.
        """
        ...

    def commit(self) -> None:
        """Keep everything since `begin`. Raises `UnknownOutcomeError`."""
        ...

    def roll_back(self) -> None:
        """Keep nothing since `begin`; also right when the transaction is gone already."""
        ...

    def prepare_retry(self, error: BaseException) -> bool:
        """After a transaction that failed and was rolled back: whether it is to be done again."""
        ...

    def find_replaced(self) -> str | None:
        """What became of the files that hold commits, so that these are lost with this process;
        None while each is in its place. Cheap: asked after every commit."""
        ...

    def examine_files(self) -> str | None:
        """As `find_replaced`, for files that hold no commits as well."""
        ...

    def checkpoint(self) -> int:
        """Bring the write-ahead log into the database, as far as no reader needs it; outside of
        a transaction. How many of its pages are left."""
        ...

    def is_unavailable(self, error: BaseException) -> bool:
        """See `Dialect`."""
        ...

    def is_lost(self, error: BaseException) -> bool:
        """Whether an error leaves open what the disk has, so that only a new process may go on."""
        ...

    def close(self) -> None:
        """Give the connection back."""
        ...


class Dialect(Protocol):
    """One database, and how it is spoken to."""

    name: str
    """What people call it: a path, or an address without user and password."""
    begin_writing: str
    begin_reading: str

    def create_engine(self) -> sa.Engine:
        """The pool of its connections, which begin no transaction by themselves."""
        ...

    def open_writer_connection(self, engine: sa.Engine, *, always_flush: bool) -> WriterConnection:
        """A connection of its own."""
        ...

    def is_unavailable(self, error: BaseException) -> bool:
        """Whether an error of the database is about its storage, not about what was asked."""
        ...

    def find_remedy(self, error: BaseException) -> str:
        """What helps against an error for which `is_unavailable` holds; empty where that is in
        its own words, or nothing is known."""
        ...

    def lock_exclusively(self, connection: sa.Connection) -> None:
        """Let no other process be in a transaction of this kind until this one ends."""
        ...

    def is_only_writer(self, connection: sa.Connection) -> bool:
        """Whether no other process keeps a connection to write with."""
        ...

    def read_clock(self, connection: sa.Connection) -> float | None:
        """Unix seconds by a clock that all processes share; None where there is one process."""
        ...

    def describe_fault(self, connection: sa.Connection) -> str | None:
        """Why this database cannot be used at all; None when it can."""
        ...

    def examine(self, connection: sa.Connection) -> tuple[str | None, str]:
        """What is damaged in it, if anything is, and what it is."""
        ...

    def flush_wal(self, connection: sa.Connection) -> None:
        """See `Database.flush_wal`."""
        ...

    @property
    def file_bytes(self) -> int:
        """The length of the database's file; 0 where there is none."""
        ...

    @property
    def wal_bytes(self) -> int:
        """The length of the write-ahead log's file; 0 where there is none."""
        ...


class UnknownOutcomeError(Exception):
    """The connection was cut while a commit was under way, and nobody can say how it ended.

    The ledger's work is the same when it is done twice: a receipt is stored once for each request
    id, and its hold is settled with it. So what was refused for this may be recorded again.
    """
