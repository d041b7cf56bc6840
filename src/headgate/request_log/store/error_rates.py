"""The SQL of the attempts of the last minutes, which processes tell each other."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import build_insert

ATTEMPT_COUNTS = sa.Table(
    "attempt_counts",
    METADATA,
    sa.Column("process_id", sa.Text, primary_key=True),
    sa.Column("minute", sa.BigInteger, primary_key=True),
    sa.Column("project_id", sa.Text, primary_key=True),
    sa.Column("resource_id", sa.Text, primary_key=True),
    sa.Column("credential_id", sa.Text, primary_key=True),
    sa.Column("credential_name", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("status", sa.BigInteger, primary_key=True),
    sa.Column("failed", sa.SmallInteger, primary_key=True),
    sa.Column("attempts", sa.BigInteger, nullable=False),
)
_A = ATTEMPT_COUNTS.c
# Two models that differ in a NUL only are one to PostgreSQL.
_INSERT = build_insert(ATTEMPT_COUNTS, ignore_known=True)


class AttemptKind(msgspec.Struct, frozen=True):
    """Name what is counted together: whose attempts, with what, and how they ended."""

    resource_id: str
    credential_id: str
    credential_name: str
    model: str
    status: int
    failed: bool


class AttemptCount(msgspec.Struct, frozen=True):
    """Count the attempts of one kind in one minute of unix time."""

    minute: int
    project_id: str
    kind: AttemptKind
    attempts: int


def replace_minutes(
    connection: sa.Connection,
    process_id: str,
    minutes: Iterable[int],
    counts: Iterable[AttemptCount],
) -> None:
    """Replace what a process has told of some minutes."""
    own = sa.and_(_A.process_id == process_id, _A.minute.in_(list(minutes)))
    connection.execute(sa.delete(ATTEMPT_COUNTS).where(own))
    for each in counts:
        kind = each.kind
        _INSERT.run(
            connection,
            (
                process_id,
                each.minute,
                each.project_id,
                kind.resource_id,
                kind.credential_id,
                kind.credential_name,
                kind.model,
                kind.status,
                int(kind.failed),
                each.attempts,
            ),
        )


def select_others(connection: sa.Connection, process_id: str, since: int) -> list[AttemptCount]:
    """Return what other processes have told, from a minute on."""
    query = sa.select(*(each for each in _A if each.name != "process_id")).where(
        _A.process_id != process_id, _A.minute >= since
    )
    return [
        AttemptCount(
            row.minute,
            row.project_id,
            AttemptKind(
                row.resource_id,
                row.credential_id,
                row.credential_name,
                row.model,
                row.status,
                bool(row.failed),
            ),
            row.attempts,
        )
        for row in connection.execute(query)
    ]


def delete_before(connection: sa.Connection, minute: int) -> None:
    connection.execute(sa.delete(ATTEMPT_COUNTS).where(_A.minute < minute))
