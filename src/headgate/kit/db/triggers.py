"""Rules that the database itself keeps, where its dialect has them."""

from __future__ import annotations

import sqlalchemy as sa
from sqlalchemy import event


def forbid_changes(table: sa.Table) -> None:
    """Make a table append-only: the database refuses to update or delete its rows."""
    for verb in ("UPDATE", "DELETE"):
        trigger = sa.DDL(
            f"CREATE TRIGGER {table.name}_no_{verb.lower()} BEFORE {verb} ON {table.name} "
            f"BEGIN SELECT RAISE(ABORT, '{table.name} are append-only'); END"
        )
        event.listen(table, "after_create", trigger.execute_if(dialect="sqlite"))
