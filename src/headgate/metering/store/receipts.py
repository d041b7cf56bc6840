"""All SQL of the receipts."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, count_rows
from headgate.kit.db.statement import BulkInsert
from headgate.kit.failpoint import failpoint
from headgate.kit.ids import first_id
from headgate.metering.model import (
    CORRECTED,
    MICROSECONDS,
    LatencySample,
    ManagedUsage,
    Outcomes,
    from_row,
    to_row,
)
from headgate.relay.ports import Receipt


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _flag(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.SmallInteger, nullable=False)


RECEIPTS = sa.Table(
    "receipts",
    METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    _number("created_at"),
    _text("organization_id"),
    _text("project_id"),
    _text("key_id"),
    _text("credential_id"),
    _flag("managed"),
    _text("endpoint"),
    _text("method"),
    _text("provider"),
    _text("model_requested"),
    _text("model_served"),
    _text("answer_id"),
    _text("upstream_request_id"),
    _text("correlation_id"),
    _number("status"),
    _text("outcome"),
    _text("error_code"),
    _flag("streamed"),
    _text("usage"),
    _flag("estimated"),
    _text("service_tier"),
    _text("pricing"),
    _text("unpriced_reason"),
    _text("price_id"),
    _number("cost_nano"),
    _number("attempts"),
    _number("first_byte_microseconds"),
    _number("upstream_microseconds"),
    _number("total_microseconds"),
    _number("overhead_microseconds"),
    # With defaults, so that an older version can still insert.
    sa.Column("metadata", sa.Text, nullable=False, server_default=sa.text("''")),
    sa.Column("cache_status", sa.Text, nullable=False, server_default=sa.text("'bypass'")),
    sa.Column("credit_nano", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    # 1 once it is in the roll-ups. Inserts leave it out.
    sa.Column("rolled_up", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
    # The only large index besides the primary key, since every call waits for this insert.
    sa.Index("ix_receipts_organization_id_created_at", "organization_id", "created_at"),
    # This one holds only the receipts of the last seconds.
    sa.Index(
        "ix_receipts_open",
        "organization_id",
        "created_at",
        sqlite_where=sa.text("rolled_up = 0"),
        postgresql_where=sa.text("rolled_up = 0"),
    ),
)
COLUMNS = tuple(name for name in (each.name for each in RECEIPTS.c) if name != "rolled_up")
OPEN = sa.text("receipts.rolled_up = 0")
"""The condition of the index of open receipts, as a literal: a parameter would not match it."""
_INSERT = BulkInsert(RECEIPTS, *COLUMNS, ignore_known=True)


def insert(connection: sa.Connection, receipts: Sequence[Receipt]) -> int:
    """Insert receipts, ignoring those whose request has one. Return how many were new."""
    return _INSERT.run(connection, [to_row(receipt) for receipt in receipts])


def find(connection: sa.Connection, request_id: str) -> Receipt | None:
    query = sa.select(RECEIPTS).where(RECEIPTS.c.request_id == request_id)
    row = connection.execute(query).first()
    return None if row is None else from_row(row)


def list_outcome(connection: sa.Connection, outcome: str, *, rows_max: int) -> Sequence[Receipt]:
    """Return the newest receipts of an outcome, newest first. It reads all receipts."""
    query = (
        sa.select(RECEIPTS)
        .where(RECEIPTS.c.outcome == outcome)
        .order_by(RECEIPTS.c.created_at.desc())
        .limit(rows_max)
    )
    return [from_row(row) for row in connection.execute(query)]


def list_recent(
    connection: sa.Connection, organization_id: str, *, rows_max: int
) -> Sequence[Receipt]:
    """Return the newest receipts of an organization, newest first."""
    query = (
        sa.select(RECEIPTS)
        .where(RECEIPTS.c.organization_id == organization_id)
        .order_by(RECEIPTS.c.created_at.desc())
        .limit(rows_max)
    )
    return [from_row(row) for row in connection.execute(query)]


def select_latency_samples(
    connection: sa.Connection, since: float, *, rows_max: int
) -> list[LatencySample]:
    """Return the latencies of completed calls among the newest `rows_max` receipts since a time.
    Ids sort by time, so the primary key finds them without another index."""
    table = RECEIPTS.c
    query = (
        sa.select(
            table.request_id,
            table.credential_id,
            table.model_requested,
            table.outcome,
            table.streamed,
            table.first_byte_microseconds,
            table.upstream_microseconds,
        )
        .where(table.request_id >= first_id("req", since))
        .order_by(table.request_id.desc())
        .limit(rows_max)
    )
    samples: list[LatencySample] = []
    for request_id, credential_id, model_id, outcome, *times in connection.execute(query):
        streamed, first_byte, whole = times
        microseconds = first_byte if streamed else whole
        if outcome == "completed" and model_id and credential_id and microseconds >= 0:
            samples.append(LatencySample(request_id, credential_id, model_id, microseconds))
    return samples


def count(connection: sa.Connection) -> int:
    return count_rows(connection, RECEIPTS)


def sum_outcomes(
    connection: sa.Connection,
    organization_id: str,
    credential_id: str,
    *,
    since: float,
    until: float,
) -> list[Outcomes]:
    """Count the calls made with one credential of an organization, by endpoint.

    The index finds the organization's receipts of that time, and each of them is read: keep the
    time short.
    """
    table = RECEIPTS.c
    completed = sa.func.sum(sa.case((table.outcome == "completed", 1), else_=0))
    statement = (
        sa.select(table.endpoint, sa.func.count(), completed)
        .where(
            table.organization_id == organization_id,
            table.created_at >= int(since * MICROSECONDS),
            table.created_at < int(until * MICROSECONDS),
            table.credential_id == credential_id,
            table.attempts > 0,
        )
        .group_by(table.endpoint)
        .order_by(table.endpoint)
    )
    return [Outcomes(*row) for row in connection.execute(statement)]


SCOPES = {
    "key": RECEIPTS.c.key_id,
    "project": RECEIPTS.c.project_id,
    "organization": RECEIPTS.c.organization_id,
}
"""The column that names the object of each scope of a budget."""


def match_scope(scope: str, scope_id: str) -> sa.ColumnElement[bool]:
    return SCOPES[scope] == scope_id


def sum_columns() -> tuple[sa.ColumnElement[int], sa.ColumnElement[int]]:
    """Return the sums of the costs: of all calls, and of the managed ones."""
    cost = RECEIPTS.c.cost_nano
    managed = sa.case((RECEIPTS.c.managed == 1, cost), else_=0)
    return (
        sa.func.coalesce(sa.func.sum(cost), 0),
        sa.func.coalesce(sa.func.sum(managed), 0),
    )


def sum_costs(
    connection: sa.Connection,
    organization_id: str,
    *,
    scope: str,
    scope_id: str,
    since: float,
    until: float,
) -> tuple[int, int]:
    """Return what the calls of a key, project or organization cost between two times: all of them,
    and the managed ones."""
    query = sa.select(*sum_columns()).where(
        RECEIPTS.c.organization_id == organization_id,
        RECEIPTS.c.created_at >= int(since * MICROSECONDS),
        RECEIPTS.c.created_at < int(until * MICROSECONDS),
        match_scope(scope, scope_id),
    )
    used, managed = connection.execute(query).one()
    return int(used), int(managed)


def sum_managed(
    connection: sa.Connection, organization_id: str, *, since: float, until: float
) -> list[ManagedUsage]:
    """Return what the managed calls of an organization cost between two times, by project and
    model; corrections of calls apart."""
    table = RECEIPTS.c
    # Without parameters, which PostgreSQL would not take for the same in both places.
    is_correction = sa.literal_column(
        f"CASE WHEN outcome = '{CORRECTED}' THEN 1 ELSE 0 END", sa.Integer
    )
    groups = (table.project_id, table.provider, table.model_requested, is_correction)
    query = (
        sa.select(
            *groups,
            sa.func.count(),
            sa.func.sum(table.cost_nano),
            sa.func.sum(table.credit_nano),
        )
        .where(
            table.organization_id == organization_id,
            table.managed == 1,
            table.created_at >= int(since * MICROSECONDS),
            table.created_at < int(until * MICROSECONDS),
        )
        .group_by(*groups)
        .order_by(*groups)
    )
    # The sum of integers is a decimal in PostgreSQL.
    return [
        ManagedUsage(project, provider, model or "", bool(corrects), calls, int(cost), int(credit))
        for project, provider, model, corrects, calls, cost, credit in connection.execute(query)
    ]


def count_before(connection: sa.Connection, unix_seconds: float) -> int:
    return count_rows(connection, RECEIPTS, *_older(unix_seconds))


def _older(unix_seconds: float) -> tuple[sa.ColumnElement[bool], ...]:
    """Return the condition for old receipts; ids sort by time, so the primary key finds them."""
    return (
        RECEIPTS.c.request_id < first_id("req", unix_seconds),
        RECEIPTS.c.created_at < int(unix_seconds * MICROSECONDS),
    )


def delete_before(connection: sa.Connection, unix_seconds: float, rows_max: int) -> int:
    """Delete at most `rows_max` receipts older than a time, oldest first. Return how many. Those
    that are in no roll-up yet stay for the next run."""
    old = (
        sa.select(RECEIPTS.c.request_id)
        .where(RECEIPTS.c.rolled_up == 1, *_older(unix_seconds))
        .order_by(RECEIPTS.c.request_id)
        .limit(rows_max)
    )
    deletion = sa.delete(RECEIPTS).where(RECEIPTS.c.request_id.in_(old.scalar_subquery()))
    deleted = connection.execute(deletion).rowcount
    failpoint("retention")
    return deleted
