"""Declare rules that the database enforces by itself."""

from __future__ import annotations

import functools

import sqlalchemy as sa
from sqlalchemy import event

_RAISE = "raise_append_only"


def _forbid_in_sqlite(table: str) -> list[str]:
    return [
        f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
        f"BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END"
        for verb in ("UPDATE", "DELETE")
    ]


def _forbid_in_postgresql(table: str) -> list[str]:
    return [
        f"CREATE OR REPLACE FUNCTION {_RAISE}() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN "
        "RAISE EXCEPTION USING MESSAGE = TG_TABLE_NAME || ' are append-only', "
        "ERRCODE = 'integrity_constraint_violation'; END $$",
        f"CREATE TRIGGER {table}_no_change BEFORE UPDATE OR DELETE OR TRUNCATE ON {table} "
        f"FOR EACH STATEMENT EXECUTE FUNCTION {_RAISE}()",
    ]


_FORBID = {"sqlite": _forbid_in_sqlite, "postgresql": _forbid_in_postgresql}
_DROP: dict[str, list[str]] = {
    "sqlite": [],
    "postgresql": [f"DROP FUNCTION IF EXISTS {_RAISE}()"],
}


def forbid_changes_of(table: str, dialect: str) -> list[str]:
    """Return the statements that make a table append-only."""
    return _FORBID[dialect](table)


def drop_rules(dialect: str) -> list[str]:
    """Return the statements that remove what append-only tables share. Run them once the last of
    these tables is dropped."""
    return _DROP[dialect]


def forbid_changes(table: sa.Table) -> None:
    """Make a table append-only wherever it is created."""
    event.listen(table, "after_create", functools.partial(_create_triggers, table.name))


def _create_triggers(
    table: str, _target: sa.Table, connection: sa.Connection, **_options: object
) -> None:
    for statement in forbid_changes_of(table, connection.dialect.name):
        connection.exec_driver_sql(statement)
