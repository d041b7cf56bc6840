"""Statements of the hot path: built by SQLAlchemy once, run by the driver itself."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
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


class BulkInsert:
    """Inserts many rows in few steps.

    The driver gives up the interpreter's lock at every step of a statement, and must then wait
    for the event loop to give it back: so rows go in by powers of two, not one by one.
    """

    ROWS_MAX = 64

    def __init__(self, table: sa.Table, *, ignore_known: bool) -> None:
        one = compile_insert(table)
        start, _, values = one.rpartition("VALUES ")
        end = " ON CONFLICT DO NOTHING" if ignore_known else ""
        sizes = [1 << power for power in range(self.ROWS_MAX.bit_length())]
        self._statements = [
            (size, f"{start}VALUES {', '.join([values] * size)}{end}") for size in reversed(sizes)
        ]

    def run(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert the rows; how many were new."""
        cursor = driver_cursor(connection)
        inserted = done = 0
        for size, statement in self._statements:
            while len(rows) - done >= size:
                chunk = rows[done : done + size]
                cursor.execute(statement, tuple(itertools.chain.from_iterable(chunk)))
                inserted += cursor.rowcount
                done += size
        return inserted


def driver_cursor(connection: sa.Connection) -> Any:
    """The driver's own cursor, inside the transaction of `connection`."""
    return connection.connection.cursor()
