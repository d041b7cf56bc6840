"""Compile statements of the hot path once with SQLAlchemy; the driver itself runs them."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import sqlalchemy as sa

Values = Sequence[Any]
_KNOWN_IGNORED = " ON CONFLICT DO NOTHING"


class HotStatement:
    """Hold a statement with parameters in a fixed order. Its text is compiled at most once in a
    process for each kind of database."""

    def __init__(
        self, statement: sa.UpdateBase | sa.Select[Any], *parameters: str, end: str = ""
    ) -> None:
        self._statement = statement
        self._parameters = parameters
        self._end = end
        self._texts: dict[str, str] = {}

    def compile(self, dialect: sa.Dialect) -> str:
        """Return the SQL for a dialect; it is cached."""
        compiled = self._statement.compile(dialect=dialect)
        assert tuple(compiled.positiontup or ()) == self._parameters, compiled.positiontup
        text = self._texts[dialect.name] = f"{compiled}{self._end}"
        return text

    def run(self, connection: sa.Connection, values: Values) -> int:
        """Execute it once; return the number of rows affected."""
        dialect = connection.dialect
        cursor: Any = connection.connection.cursor()
        cursor.execute(self._texts.get(dialect.name) or self.compile(dialect), values)
        return cursor.rowcount

    def fetch(self, connection: sa.Connection, values: Values) -> Sequence[Values]:
        """Execute a query; return its rows."""
        dialect = connection.dialect
        cursor: Any = connection.connection.cursor()
        cursor.execute(self._texts.get(dialect.name) or self.compile(dialect), values)
        return cursor.fetchall()

    def run_all(self, connection: sa.Connection, rows: Sequence[Values]) -> int:
        """Execute it for each of the rows; return the number of rows affected in all."""
        dialect = connection.dialect
        cursor: Any = connection.connection.cursor()
        cursor.executemany(self._texts.get(dialect.name) or self.compile(dialect), rows)
        return cursor.rowcount if rows else 0


def build_insert(table: sa.Table, *columns: str, ignore_known: bool = False) -> HotStatement:
    """Build an insert of tuples of these columns (all of the table by default). With
    `ignore_known`, a row whose key exists already changes nothing and is not counted."""
    names = columns or tuple(table.c.keys())
    insertion = sa.insert(table).values({name: sa.bindparam(name) for name in names}).inline()
    return HotStatement(insertion, *names, end=_KNOWN_IGNORED if ignore_known else "")


class BulkInsert:
    """Insert many rows in few steps.

    The driver of SQLite releases the interpreter's lock at every step of a statement, and must then
    wait for the event loop to give it back: so rows are inserted in powers of two, not one by one.
    """

    ROWS_MAX = 64

    def __init__(self, table: sa.Table, *, ignore_known: bool) -> None:
        self._one = build_insert(table)
        self._end = _KNOWN_IGNORED if ignore_known else ""
        self._texts: dict[str, list[tuple[int, str]]] = {}

    def run(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert the rows; return how many were new."""
        texts = self._texts.get(connection.dialect.name) or self._compile(connection.dialect)
        cursor: Any = connection.connection.cursor()
        inserted = done = 0
        for size, text in texts:
            while len(rows) - done >= size:
                chunk = rows[done : done + size]
                cursor.execute(text, tuple(itertools.chain.from_iterable(chunk)))
                inserted += cursor.rowcount
                done += size
        return inserted

    def _compile(self, dialect: sa.Dialect) -> list[tuple[int, str]]:
        start, _, values = self._one.compile(dialect).rpartition("VALUES ")
        sizes = [1 << power for power in range(self.ROWS_MAX.bit_length())]
        texts = [
            (size, f"{start}VALUES {', '.join([values] * size)}{self._end}")
            for size in reversed(sizes)
        ]
        self._texts[dialect.name] = texts
        return texts
