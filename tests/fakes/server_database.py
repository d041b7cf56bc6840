"""What a server has written down, read from its database by another connection."""

from __future__ import annotations

import json
import sqlite3
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.fakes.waiting import wait_until


@dataclass
class ServerDatabase:
    """Read the database of a data directory."""

    data: Path

    def read(self, query: str, *values: Any) -> list[dict[str, Any]]:
        path = self.data / "headgate.db"
        with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=5)) as connection:
            connection.row_factory = sqlite3.Row
            return [dict(row) for row in connection.execute(query, values)]

    def receipts(self) -> list[dict[str, Any]]:
        """Return the receipts, oldest first; their usage is decoded, None where there is none."""
        rows = self.read("SELECT * FROM receipts ORDER BY request_id")
        for row in rows:
            row["usage"] = json.loads(row["usage"]) if row["usage"] else None
        return rows

    def count(self) -> int:
        return self.read("SELECT count(*) AS n FROM receipts")[0]["n"]

    def wait_for(self, count: int, timeout_seconds: float = 5.0) -> list[dict[str, Any]]:
        """Return the receipts once there are exactly so many."""
        wait_until(lambda: self.count() >= count, timeout_seconds)
        found = self.receipts()
        assert len(found) == count, [row["outcome"] for row in found]
        return found
