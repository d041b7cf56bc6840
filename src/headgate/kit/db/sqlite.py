"""The SQLite that is linked here: which one, whether its WAL mode can be trusted, how it is opened.

SQLite 3.7.0 to 3.51.2 can corrupt a WAL database when two connections write and checkpoint at the
same instant (fixed in 3.51.3). Where only such a version is to be had, the journal is a plain one.
"""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path
from typing import Any

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
"""Errors that the request itself caused; every other `DatabaseError` is the storage's."""
LOST_ERRORS = ("SQLITE_IOERR", "SQLITE_CORRUPT", "SQLITE_NOTADB")
"""Beginnings of the names of errors after which it is not known what the disk has. The driver does
not tell a flush that failed from another failed operation, so every I/O error counts; a disk that
is full (SQLITE_FULL) or a lock (SQLITE_BUSY) is none."""
WAL_BYTES_KEPT = 64 * 1024 * 1024
"""A write-ahead log that grew longer is cut to this once all of it is in the database."""
JOURNAL_MODE = "wal" if WAL_SAFE else "delete"


def connect(path: Path, *, busy_timeout_seconds: float) -> Any:
    """A DB-API connection in autocommit mode, with the pragmas that the ledger needs."""
    connection = DRIVER.connect(
        str(path), timeout=busy_timeout_seconds, isolation_level=None, check_same_thread=False
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
