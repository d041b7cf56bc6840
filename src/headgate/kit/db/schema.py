"""Declare the tables' metadata, and the counters that tell other processes of a change."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.kit.db.statement import HotStatement, build_insert

METADATA = sa.MetaData(
    naming_convention={
        "ix": "ix_%(table_name)s_%(column_0_name)s",
        "uq": "uq_%(table_name)s_%(column_0_name)s",
        "ck": "ck_%(table_name)s_%(constraint_name)s",
        "fk": "fk_%(table_name)s_%(column_0_name)s",
        "pk": "pk_%(table_name)s",
    }
)

REVISIONS = sa.Table(
    "revisions",
    METADATA,
    sa.Column("topic", sa.Text, primary_key=True),
    sa.Column("value", sa.BigInteger, nullable=False),
)
_INSERT = build_insert(REVISIONS, ignore_known=True)
_SELECT_ONE = HotStatement(
    sa.select(REVISIONS.c.value).where(REVISIONS.c.topic == sa.bindparam("of_topic")), "of_topic"
)


WRITERS = "writer:"
"""Prefix of the topics under which writers count their own commits."""
CLOCK = "clock"
"""Topic that stores the greatest time seen, in microseconds, instead of a counter."""
MICROSECONDS = 1_000_000


def declare_unique(name: str, *columns: Any, where: sa.ColumnElement[bool] | None = None) -> None:
    """Declare a unique index of these columns, for the rows that `where` selects."""
    sa.Index(name, *columns, unique=True, sqlite_where=where, postgresql_where=where)


def count_rows(
    connection: sa.Connection, table: sa.FromClause, *conditions: sa.ColumnElement[bool]
) -> int:
    statement = sa.select(sa.func.count()).select_from(table).where(*conditions)
    return connection.execute(statement).scalar_one()


def bump_revision(connection: sa.Connection, topic: str) -> None:
    update = (
        sa.update(REVISIONS).where(REVISIONS.c.topic == topic).values(value=REVISIONS.c.value + 1)
    )
    if connection.execute(update).rowcount:
        return
    # Of two processes that are the first at once, one waits here for the other to commit.
    if not _INSERT.run(connection, (topic, 1)):
        connection.execute(update)


def record_time(connection: sa.Connection, now: float) -> None:
    """Store the greatest time, in Unix seconds, that any process of this database has seen."""
    value = int(now * MICROSECONDS) + 1
    update = sa.update(REVISIONS).where(REVISIONS.c.topic == CLOCK, REVISIONS.c.value < value)
    if not connection.execute(update.values(value=value)).rowcount:
        _INSERT.run(connection, (CLOCK, value))


def read_time(connection: sa.Connection) -> float:
    """Return the greatest time given to `record_time`, in Unix seconds; 0 for none."""
    query = sa.select(REVISIONS.c.value).where(REVISIONS.c.topic == CLOCK)
    return (connection.execute(query).scalar_one_or_none() or 0) / MICROSECONDS


def read_revision(connection: sa.Connection, topic: str) -> int:
    """Return the counter of a topic, 0 if it never changed. Costs little."""
    rows = _SELECT_ONE.fetch(connection, (topic,))
    return rows[0][0] if rows else 0


def read_revisions(connection: sa.Connection) -> dict[str, int]:
    """Return the counter of every topic that ever changed."""
    query = sa.select(REVISIONS).where(
        REVISIONS.c.topic.not_like(f"{WRITERS}%"), REVISIONS.c.topic != CLOCK
    )
    return {row.topic: row.value for row in connection.execute(query)}
