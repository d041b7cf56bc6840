"""Pages of rows, newest first, where only an owner and the time have an index."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import MICROSECONDS
from headgate.kit.page_cursor import PageCursor

SCANNED_MAX = 100_000
"""How many rows one page examines at most."""

Conditions = list[sa.ColumnElement[bool]]


class PageOrder(msgspec.Struct, frozen=True):
    """Name the columns by which rows are in order: their time, then their id."""

    created_at: sa.Column[Any]
    id: sa.Column[Any]

    def select_page(
        self,
        connection: sa.Connection,
        indexed: Conditions,
        others: Conditions,
        *,
        after: PageCursor | None,
        limit: int,
        scanned_max: int = SCANNED_MAX,
    ) -> tuple[Sequence[sa.Row[Any]], PageCursor | None]:
        """Return up to `limit` rows from behind a place, and where the next page begins: behind the
        last row, or where this one ended because it examined enough; None for the last page.

        `indexed` are the conditions that an index answers; rows are examined for the `others`.
        """
        conditions = list(indexed) if after is None else [*indexed, *self._is_behind(after)]
        last = None
        if others:
            last = self._find_last_scanned(connection, conditions, scanned_max)
            if last is not None:
                conditions.append(self.created_at >= last)
        query = (
            sa.select(self.id.table)
            .where(*conditions, *others)
            .order_by(self.created_at.desc(), self.id.desc())
            .limit(limit + 1)
        )
        rows = connection.execute(query).all()
        if len(rows) > limit:
            end = rows[limit - 1]
            place = PageCursor(getattr(end, self.created_at.name), getattr(end, self.id.name))
            return rows[:limit], place
        return rows, None if last is None else PageCursor(last)

    def _is_behind(self, place: PageCursor) -> Conditions:
        at = place.created_at
        is_same = sa.and_(self.created_at == at, self.id < place.id)
        return [self.created_at <= at, sa.or_(self.created_at < at, is_same)]

    def _find_last_scanned(
        self, connection: sa.Connection, indexed: Conditions, scanned_max: int
    ) -> int | None:
        """Return the time of the last row that a page may examine; None where that is the end."""
        query = (
            sa.select(self.created_at)
            .where(*indexed)
            .order_by(self.created_at.desc())
            .offset(scanned_max - 1)
            .limit(2)
        )
        times = connection.execute(query).scalars().all()
        return times[0] if len(times) == 2 else None


def match_columns(columns: Mapping[str, sa.Column[Any]], given: Mapping[str, Any]) -> Conditions:
    """Return the conditions that columns, by their names, have the values that are given and not
    None. Flags are stored as numbers."""
    return [
        column == (int(given[name]) if isinstance(given[name], bool) else given[name])
        for name, column in columns.items()
        if given[name] is not None
    ]


def match_time(column: sa.Column[Any], since: float | None, until: float | None) -> Conditions:
    """Return the conditions that a time in microseconds is from `since`, before `until`: unix
    seconds, None for no bound."""
    conditions: Conditions = []
    if since is not None:
        conditions.append(column >= round(since * MICROSECONDS))
    if until is not None:
        conditions.append(column < round(until * MICROSECONDS))
    return conditions


def list_owners(connection: sa.Connection, column: sa.Column[Any]) -> list[str]:
    """Return the values of a column that begins an index. Each is one look into the index."""
    found: list[str] = []
    query = sa.select(sa.func.min(column))
    name = connection.execute(query).scalar_one()
    while name is not None:
        found.append(name)
        name = connection.execute(query.where(column > name)).scalar_one()
    return found


def has_pair(metadata: sa.Column[Any], key: str, value: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column of metadata has a pair.

    It is stored as msgspec writes it, without spaces, and in a text every quote is escaped. So the
    pair is in it if these bytes are, behind the brace or a comma.
    """
    pair = f"{msgspec.json.encode(key).decode()}:{msgspec.json.encode(value).decode()}"
    # Without a wildcard, and with case, on both databases.
    return sa.or_(*(sa.func.replace(metadata, f"{start}{pair}", "") != metadata for start in "{,"))
