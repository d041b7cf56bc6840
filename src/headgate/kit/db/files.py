"""Detect that files of an open SQLite database were deleted or replaced.

A file that is deleted, moved or replaced goes on living for who has it open: commits succeed, and
are gone with the process. What was opened is therefore compared with what is at its path.
"""

from __future__ import annotations

import os
from pathlib import Path

SUFFIXES = ("-wal", "-shm")
"""The write-ahead log, and its index, which holds no commits and is checked less often."""

Identity = tuple[int, int]


class OpenFiles:
    """Remember the files of one open connection, by device and inode.

    Create it when the connection has read, so that all files exist. A file that is missing then,
    such as the log in another journal mode, is not watched.
    """

    def __init__(self, path: Path) -> None:
        # The database's path is kept as it was given, for a link may be led elsewhere; but not
        # relative to the working directory, which follows a folder that is moved. The other files
        # are beside the file that links lead to.
        place, target = os.path.abspath(path), os.path.realpath(path)
        names = (place, *(f"{target}{suffix}" for suffix in SUFFIXES))
        found = [(name, _identify(name)) for name in names]
        self._known = [(name, identity) for name, identity in found if identity is not None]
        self._committed = [(n, *identity) for n, identity in self._known if n != names[-1]]

    def find_replaced(self) -> str | None:
        """Return what happened to a file that holds commits; None while each is in its place."""
        stat = os.stat
        try:
            for name, device, inode in self._committed:
                found = stat(name)
                if found.st_ino != inode or found.st_dev != device:
                    break
            else:
                return None
        except OSError:
            pass
        return self.examine()

    def examine(self) -> str | None:
        """Do what `find_replaced` does, for every file."""
        for name, identity in self._known:
            found = _identify(name)
            if found != identity:
                return f"{name} was {'deleted or moved' if found is None else 'replaced'}"
        return None


def _identify(name: str) -> Identity | None:
    try:
        found = os.stat(name)
    except OSError:
        return None
    return found.st_dev, found.st_ino
