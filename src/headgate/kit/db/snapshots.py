"""Reload snapshots in memory when their data in the database has changed."""

from __future__ import annotations

import threading
from collections.abc import Callable

import sqlalchemy as sa

from headgate.kit.db.engine import Database
from headgate.kit.db.schema import read_revisions


class SnapshotReloader:
    """Call `load` with the topics whose revision differs from the last one seen."""

    def __init__(
        self, database: Database, load: Callable[[sa.Connection, frozenset[str]], None]
    ) -> None:
        self._database = database
        self._load = load
        # A write reloads in a thread of its own, beside the periodic job.
        self._lock = threading.Lock()
        self._revisions: dict[str, int] = {}

    def reload(self) -> None:
        """Load what has changed; blocks, so call it in a thread."""
        with self._lock, self._database.reading() as connection:
            revisions = read_revisions(connection)
            changed = {
                topic for topic, value in revisions.items() if self._revisions.get(topic) != value
            }
            if changed:
                self._load(connection, frozenset(changed))
                self._revisions = revisions
