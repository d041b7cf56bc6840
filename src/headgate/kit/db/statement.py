"""Statements of the hot path: built by SQLAlchemy once, run by the driver itself."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from sqlalchemy.dialects import sqlite


def compile_positional(statement: sa.UpdateBase | sa.Select[Any], *parameters: str) -> str:
    """The SQL text of a statement whose parameters are named in the order they shall have."""
    compiled = statement.compile(dialect=sqlite.dialect(paramstyle="qmark"))
    assert tuple(compiled.positiontup or ()) == parameters, compiled.positiontup
    return str(compiled)


def compile_insert(table: sa.Table, *columns: str, ignore_known: bool = False) -> str:
    """Insert rows as tuples of these columns (all of the table by default).

    With `ignore_known` a row whose key is there already changes nothing, nor does it count in
    the cursor's `rowcount`.
    """
    names = columns or tuple(table.c.keys())
    insertion = sa.insert(table).values({name: sa.bindparam(name) for name in names})
    text = compile_positional(insertion, *names)
    return f"{text} ON CONFLICT DO NOTHING" if ignore_known else text


def driver_cursor(connection: sa.Connection) -> Any:
    """The driver's own cursor, inside the transaction of `connection`."""
    return connection.connection.cursor()
