"""Let rows of an owner end at a time, while newer ones are valid already."""

from __future__ import annotations

import sqlalchemy as sa


def expire_rows(
    connection: sa.Connection,
    table: sa.Table,
    of_owner: sa.ColumnElement[bool],
    *,
    now: float,
    until: float,
) -> None:
    """Let the current rows of an owner end at a time, at once if that is over, and delete those
    that were to end already. `table` has a column `expires_at`, null for a row without an end."""
    connection.execute(sa.delete(table).where(of_owner, table.c.expires_at.is_not(None)))
    if until <= now:
        connection.execute(sa.delete(table).where(of_owner))
    else:
        connection.execute(sa.update(table).where(of_owner).values(expires_at=until))
