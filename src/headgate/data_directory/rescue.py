"""Rescues the contents of a database whose files were deleted or replaced under a running server.

The process still has the old files open, and nobody else can reach them any more. So its last
connection copies them into a backup before it closes.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import sqlalchemy as sa
import structlog

from headgate.data_directory.backup import copy_database
from headgate.settings import Settings

log = structlog.get_logger(__name__)


class DatabaseRescue:
    """Back up the database on the writer's last connection. `folder` is the backup, if one was
    made."""

    def __init__(self, settings: Settings) -> None:
        self._data = settings.data
        self.folder: Path | None = None

    def __call__(self, connection: sa.Connection) -> None:
        """Copy the database next to its place. An error is only logged, since the process ends
        anyway."""
        now = datetime.datetime.now(datetime.UTC)
        folder = self._data / f"rescued-{now:%Y%m%dT%H%M%S.%fZ}"
        try:
            copy_database(connection, folder)
            self.folder = folder
        except Exception:
            log.exception("storage.not_rescued")

    def describe(self, reason: str) -> str:
        intro = f"{reason} while the server ran. It completed no more calls and has stopped."
        if self.folder is None:
            return (
                f"{intro} The contents could not be saved. Bring the database back as it was, or "
                "restore the last backup: headgate restore (docs/backup.md)."
            )
        return (
            f"{intro} Everything that it had acknowledged is saved in {self.folder}. Continue with "
            f"that: headgate restore {self.folder} --replace --data {self._data}"
        )
