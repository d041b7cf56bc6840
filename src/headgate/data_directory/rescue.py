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
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError, Kind
from headgate.settings import Settings

log = structlog.get_logger(__name__)


class StorageLostError(HeadgateError):
    """A flush to the disk failed, so the state of the database is unknown. The server ended.

    Check the disk, then start again: completed answers are recorded.
    """

    kind = Kind.UNAVAILABLE
    code = "storage_lost"


class DatabaseRescue:
    """Back up the database on the writer's last connection.

    `folder` is the backup; None if none was made.
    """

    def __init__(self, settings: Settings) -> None:
        self._data = settings.data
        self.folder: Path | None = None

    def __call__(self, connection: sa.Connection) -> None:
        """Copy the database into the data directory. An error is only logged: the process ends."""
        now = datetime.datetime.now(datetime.UTC)
        folder = self._data / f"rescued-{now:%Y%m%dT%H%M%S.%fZ}"
        try:
            copy_database(connection, folder)
            self.folder = folder
        except Exception:
            log.exception("storage.not_rescued")

    async def check(self, writer: Writer) -> None:
        """Raise `StorageLostError` if it is unknown what the database has."""
        health = writer.health
        if health.displaced:
            await writer.stop()  # runs the rescue
            raise StorageLostError(self._describe(health.reason))
        if health.lost:
            raise StorageLostError(
                f"A flush to the disk failed ({health.reason}), so it is not known what the disk "
                "has. No call was completed since. The next start continues with what is there; "
                "look at the disk first."
            )

    def _describe(self, reason: str) -> str:
        intro = f"{reason} while the server ran. It completed no more calls and has stopped."
        if self.folder is None:
            return (
                f"{intro} The contents could not be saved. Bring the database back as it was, or "
                "restore the last backup: headgate restore (docs/backup.md)."
            )
        return (
            f"{intro} Everything that was acknowledged is saved in {self.folder}. Continue with "
            f"that: headgate restore {self.folder} --replace --data {self._data}"
        )
