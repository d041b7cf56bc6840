"""Files of an earlier installation in a data directory whose database is gone.

A start would make a new installation there, with new keys over the old ones, and nobody would see
that the old one is lost.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from headgate.data_directory.directory_lock import DATABASE_FILE, UnusableDataDirectoryError
from headgate.settings import Settings

FIRST_KEYS_FILE = "first-keys.json"
MASTER_KEY_FILE = "master.key"
WAL_FILE = f"{DATABASE_FILE}-wal"


def find(settings: Settings) -> list[Path]:
    """Return the files that only a start on a database makes.

    Beside a PostgreSQL a master key may have been brought for the first start, and SQLite files
    belong to another installation.
    """
    names = [FIRST_KEYS_FILE]
    if settings.database_url is None:
        names += [MASTER_KEY_FILE, WAL_FILE]
    return [path for path in (settings.data / name for name in names) if _has_bytes(path)]


def check_file(settings: Settings, remains: Sequence[Path]) -> None:
    """Raise `UnusableDataDirectoryError` where the database file is missing but others exist. A new
    file would take the old write-ahead log for its own and delete it."""
    path = settings.data / DATABASE_FILE
    if remains and not _has_bytes(path):
        raise refuse(settings, str(path), remains)


def refuse(
    settings: Settings, database: str, remains: Sequence[Path]
) -> UnusableDataDirectoryError:
    """Return an error that says what is missing, how to restore it, and how to begin anew."""
    names = " ".join(str(path) for path in remains)
    return UnusableDataDirectoryError(
        f"The database {database} is missing or empty, but an installation was here: {names}. "
        "Nothing was changed. To continue with it, restore its database: headgate restore BACKUP "
        f"--data {settings.data} (docs/backup.md). To start with an empty database, move these "
        "files away first."
    )


def _has_bytes(path: Path) -> bool:
    try:
        return os.stat(path).st_size > 0
    except OSError:
        return False
