"""Opens the database of the settings."""

from __future__ import annotations

from headgate.data_directory.directory_lock import DATABASE_FILE
from headgate.kit.db.engine import Database
from headgate.settings import Settings


def open_database(settings: Settings) -> Database:
    """Open the PostgreSQL of the settings, or without a URL the SQLite file. Raise
    `InvalidDatabaseUrlError` and `DriverNotInstalledError`."""
    return Database(
        settings.database_url or settings.data / DATABASE_FILE,
        busy_timeout_seconds=settings.database_wait_seconds,
        always_flush=settings.always_flush,
    )
