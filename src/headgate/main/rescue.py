"""Saves what a database held whose files were deleted or replaced while the server ran.

The process still has the old files open, and nobody else ever will: its last connection copies them
into a backup of their own before it closes.
"""

from __future__ import annotations

import datetime
from pathlib import Path

import sqlalchemy as sa
import structlog

from headgate.main.backup import copy_database
from headgate.settings import Settings

log = structlog.get_logger(__name__)


class Rescue:
    """Called with the writer's connection at its end. `folder` is the backup, if there is one."""

    def __init__(self, settings: Settings) -> None:
        self._data = settings.data
        self.folder: Path | None = None

    def __call__(self, connection: sa.Connection) -> None:
        """Copy the database beside its place. Whatever goes wrong, the process ends as it would."""
        now = datetime.datetime.now(datetime.UTC)
        folder = self._data / f"rescued-{now:%Y%m%dT%H%M%S.%fZ}"
        try:
            copy_database(connection, folder)
            self.folder = folder
        except Exception:
            log.exception("storage.not_rescued")

    def describe(self, reason: str) -> str:
        """What happened, and what to do."""
        told = f"{reason} while the server ran, so it completed no more calls and has stopped."
        if self.folder is None:
            return (
                f"{told} What it held could not be saved. Bring the database back as it was, or "
                "restore the last backup: headgate restore (docs/backup.md)."
            )
        return (
            f"{told} Everything that it had acknowledged is saved in {self.folder}; to go on with "
            f"that: headgate restore {self.folder} --replace --data {self._data}"
        )
