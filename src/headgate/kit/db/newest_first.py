"""Pages of rows, newest first, where only an owner and the time have an index."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

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
        after: tuple[int, str] | None,
        limit: int,
        scanned_max: int = SCANNED_MAX,
    ) -> tuple[Sequence[sa.Row[Any]], int | None]:
        """Return up to `limit` rows and one more, from behind a place, and the time at which the
        page ended because it examined enough; None where it did not.

        `indexed` are the conditions that an index answers; rows are examined for the `others`.
        """
        conditions = list(indexed) if after is None else [*indexed, *self._is_behind(*after)]
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
        return connection.execute(query).all(), last

    def _is_behind(self, created_at: int, name: str) -> Conditions:
        is_same = sa.and_(self.created_at == created_at, self.id < name)
        return [self.created_at <= created_at, sa.or_(self.created_at < created_at, is_same)]

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


def has_pair(metadata: sa.Column[Any], key: str, value: str) -> sa.ColumnElement[bool]:
    """Return the condition that a column of metadata has a pair.

    It is stored as msgspec writes it, without spaces, and in a text every quote is escaped. So the
    pair is in it if these bytes are, behind the brace or a comma.
    """
    pair = f"{msgspec.json.encode(key).decode()}:{msgspec.json.encode(value).decode()}"
    # Without a wildcard, and with case, on both databases.
    return sa.or_(*(sa.func.replace(metadata, f"{start}{pair}", "") != metadata for start in "{,"))
