"""Store events for other systems in the transaction that made them true."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import build_insert
from headgate.kit.failpoint import failpoint

OUTBOX = sa.Table(
    "outbox",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("topic", sa.Text, nullable=False),
    sa.Column("key", sa.Text, nullable=False),
    sa.Column("payload", sa.LargeBinary, nullable=False),
)
_INSERT = build_insert(OUTBOX)

Row = tuple[str, int, str, str, bytes]
"""id, created_at (unix microseconds), topic, key (events of one key keep their order), payload."""


def append(connection: sa.Connection, rows: Sequence[Row]) -> None:
    """Add events in this transaction; ids are chosen by the sender and unique."""
    _INSERT.run_all(connection, rows)
    failpoint("outbox_insert")
