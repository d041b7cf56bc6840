"""Rules that the database itself keeps, where its dialect has them."""

from __future__ import annotations

import functools

import sqlalchemy as sa
from sqlalchemy import event


def forbid_changes_of(table: str, dialect: str) -> list[str]:
    """The statements that make a table append-only: its rows cannot be updated or deleted."""
    if dialect != "sqlite":
        return []
    return [
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END"
        for verb in ("UPDATE", "DELETE")
    ]


def forbid_changes(table: sa.Table) -> None:
    """Make a table append-only wherever it is created."""
    event.listen(table, "after_create", functools.partial(_create_triggers, table.name))


def _create_triggers(
    table: str, _target: sa.Table, connection: sa.Connection, **_options: object
) -> None:
    for statement in forbid_changes_of(table, connection.dialect.name):
        connection.exec_driver_sql(statement)
