"""Compile statements of the hot path once with SQLAlchemy; the driver itself runs them."""

from __future__ import annotations

import bisect
import itertools
from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

Values = Sequence[Any]
_encode = msgspec.json.Encoder().encode
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


class LockedLookup:
    """Select rows by a list of keys, locked until the transaction ends, in the order of the keys.

    One text serves any number of keys. SQLite locks nothing, as a writing transaction is alone.
    """

    def __init__(self, table: sa.Table, key: str, *columns: str) -> None:
        start = f"SELECT {', '.join((key, *columns))} FROM {table.name} WHERE {key}"
        self._sqlite = f"{start} IN (SELECT value FROM json_each(?))"
        self._postgresql = f"{start} = ANY(%s) ORDER BY {key} FOR UPDATE"

    def run(self, connection: sa.Connection, keys: Sequence[str]) -> list[tuple[Any, ...]]:
        """Return the rows that exist."""
        if not keys:
            return []
        cursor: Any = connection.connection.cursor()
        if connection.dialect.name == "sqlite":
            cursor.execute(self._sqlite, (_encode(keys).decode(),))
        else:
            cursor.execute(self._postgresql, (list(keys),))
        return cursor.fetchall()


class BulkInsert:
    """Insert many rows in few steps.

    The driver of SQLite releases the interpreter's lock at every step of a statement, and must then
    wait for the event loop to give it back. So there is a text for every number of rows that a
    batch usually has. PostgreSQL prepares a text after some uses of it, so it gets fewer of them.
    """

    ROWS_MAX = 64
    ROWS_USUAL = 32
    STEPS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48)

    def __init__(self, table: sa.Table, *columns: str, ignore_known: bool) -> None:
        self._one = build_insert(table, *columns)
        self._end = _KNOWN_IGNORED if ignore_known else ""
        self._texts: dict[tuple[str, int], str] = {}

    def run(self, connection: sa.Connection, rows: Sequence[tuple[Any, ...]]) -> int:
        """Insert the rows; return how many were new."""
        dialect = connection.dialect
        name = dialect.name
        cursor: Any = connection.connection.cursor()
        inserted = done = 0
        count = len(rows)
        while done < count:
            size = self._choose_size(name, count - done)
            text = self._texts.get((name, size)) or self._compile(dialect, size)
            chunk = rows if size == count else rows[done : done + size]
            cursor.execute(text, tuple(itertools.chain.from_iterable(chunk)))
            inserted += cursor.rowcount
            done += size
        return inserted

    def _choose_size(self, dialect_name: str, count: int) -> int:
        """Return how many of `count` rows the next statement inserts."""
        if count >= self.ROWS_MAX:
            return self.ROWS_MAX
        if dialect_name == "sqlite":
            return min(count, self.ROWS_USUAL)
        return self.STEPS[bisect.bisect_right(self.STEPS, count) - 1]

    def _compile(self, dialect: sa.Dialect, size: int) -> str:
        start, _, values = self._one.compile(dialect).rpartition("VALUES ")
        text = f"{start}VALUES {', '.join([values] * size)}{self._end}"
        self._texts[dialect.name, size] = text
        return text


class ListStatement:
    """Execute one statement for a list of rows in one step, whatever their number.

    The driver hands the rows over as one value for each column (PostgreSQL: arrays) or as one JSON
    text (SQLite), so that one text serves any number of rows.
    """

    def __init__(self, *, sqlite: str, postgresql: str) -> None:
        self._sqlite = sqlite
        self._postgresql = postgresql

    def run(self, connection: sa.Connection, rows: Sequence[Values]) -> int:
        """Execute it; return the number of rows affected."""
        if not rows:
            return 0
        cursor: Any = connection.connection.cursor()
        if connection.dialect.name == "sqlite":
            cursor.execute(self._sqlite, (_encode(rows).decode(),))
        else:
            cursor.execute(self._postgresql, tuple(map(list, zip(*rows, strict=True))))
        return cursor.rowcount
