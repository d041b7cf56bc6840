"""Lock names that transactions of several processes take in turns."""

from __future__ import annotations

from collections.abc import Iterable

import sqlalchemy as sa

SPACE = 0x48454144
"""The first number of this program's advisory locks."""
TURNS_SPACE = SPACE + 1
LOCKS_MAX = 64
"""Number of advisory locks that names are hashed to, so that no batch holds more."""

ACQUIRE_LOCKS = (
    f"SELECT pg_advisory_xact_lock({TURNS_SPACE}, turn) FROM (SELECT DISTINCT"
    f" abs(mod(hashtext(name), {LOCKS_MAX})) AS turn FROM unnest(%s::text[]) AS name"
    " ORDER BY turn) AS turns"
)


def lock_names(connection: sa.Connection, names: Iterable[str]) -> None:
    """Wait for other processes' transactions on the same names, as a batch of the writer does.

    A writing transaction of SQLite is alone, so that there is nothing to lock.
    """
    listed = list(names)
    if listed and connection.dialect.name == "postgresql":
        connection.connection.cursor().execute(ACQUIRE_LOCKS, (listed,))
