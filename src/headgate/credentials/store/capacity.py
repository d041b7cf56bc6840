"""The SQL of discovered capacities."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

import sqlalchemy as sa

from headgate.credentials.model.capacity import Capacity
from headgate.kit.db.schema import METADATA

DISCOVERED = sa.Table(
    "discovered_capacity",
    METADATA,
    sa.Column("credential_id", sa.Text, primary_key=True),
    sa.Column("model", sa.Text, primary_key=True),
    sa.Column("requests", sa.BigInteger),
    sa.Column("tokens", sa.BigInteger),
    sa.Column("observed_at", sa.Double, nullable=False),
)


def write_capacity(connection: sa.Connection, found: Iterable[tuple[str, str, Capacity]]) -> None:
    """Store capacities by credential and model, in place of earlier ones."""
    table = DISCOVERED.c
    for credential_id, model, capacity in found:
        values = {
            "requests": capacity.requests,
            "tokens": capacity.tokens,
            "observed_at": capacity.observed_at,
        }
        key = {"credential_id": credential_id, "model": model}
        same = sa.and_(table.credential_id == credential_id, table.model == model)
        changed = connection.execute(sa.update(DISCOVERED).where(same).values(**values))
        if not changed.rowcount:
            connection.execute(sa.insert(DISCOVERED).values(**key, **values))


def delete_capacity_before(connection: sa.Connection, unix_seconds: float) -> int:
    """Delete capacities seen before a time in unix seconds; return how many."""
    old = sa.delete(DISCOVERED).where(DISCOVERED.c.observed_at < unix_seconds)
    return connection.execute(old).rowcount


def select_capacity(
    connection: sa.Connection, credential_ids: Iterable[str], *, since: float
) -> dict[str, dict[str, Capacity]]:
    """Return capacities seen since a time in unix seconds, by credential and model."""
    table = DISCOVERED.c
    statement = (
        sa.select(DISCOVERED)
        .where(table.credential_id.in_(list(credential_ids)), table.observed_at >= since)
        .order_by(table.credential_id, table.model)
    )
    found: dict[str, dict[str, Capacity]] = {}
    for row in connection.execute(statement):
        of_credential = found.setdefault(row.credential_id, {})
        of_credential[row.model] = Capacity(row.requests, row.tokens, row.observed_at)
    return found


def select_latest(
    connection: sa.Connection, *, since: float, limit: int
) -> Iterator[tuple[tuple[str, str], Capacity]]:
    """Yield capacities seen since a time in unix seconds with their credential and model, the
    latest first."""
    statement = (
        sa.select(DISCOVERED)
        .where(DISCOVERED.c.observed_at >= since)
        .order_by(DISCOVERED.c.observed_at.desc())
        .limit(limit)
    )
    for row in connection.execute(statement):
        capacity = Capacity(row.requests, row.tokens, row.observed_at)
        yield (row.credential_id, row.model), capacity
