"""Finds out whether a start failed for lack of disk space."""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

from headgate.data_directory.directory_lock import DATABASE_FILE, NO_ROOM
from headgate.settings import Settings

PROBE_BYTES = 1 << 20
"""The least that a start writes: the log's index, a commit, the tables of a new database."""


def explain_lack_of_room(settings: Settings, error: Exception) -> str | None:
    """Return why the start has to wait; None if it failed for another reason than a full disk."""
    if settings.database_url is not None or has_room(settings.data):
        return None
    reason = f"the disk of {settings.data} is full ({error})"
    database = settings.data / DATABASE_FILE
    if not database.exists() or database.stat().st_size == 0:
        return f"{reason}, and its database was never set up: the first start needs room"
    return reason


def has_room(folder: Path) -> bool:
    """Return whether `PROBE_BYTES` can be written to a folder, or to its nearest existing parent.

    Errors other than a full disk count as room.
    """
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    try:
        with tempfile.TemporaryFile(dir=folder) as file:
            # Some filesystems store no blocks for zeros.
            file.write(os.urandom(PROBE_BYTES))
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        return error.errno not in NO_ROOM
    return True
