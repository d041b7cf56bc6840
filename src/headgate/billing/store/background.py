"""All SQL of responses that run in the background. Times are in unix seconds."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import build_insert
from headgate.relay.ports import BackgroundResponse

_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(BackgroundResponse).decode

BACKGROUND_RESPONSES = sa.Table(
    "background_responses",
    METADATA,
    sa.Column("request_id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("response_id", sa.Text, nullable=False),
    # Null while it runs.
    sa.Column("status", sa.Text),
    sa.Column("asks", sa.Integer, nullable=False),
    sa.Column("ask_at", sa.Double, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("settled_at", sa.Double),
    sa.Column("context", sa.Text, nullable=False),
    sa.Index("ix_background_responses_response_id", "organization_id", "response_id"),
    sa.Index(
        "ix_background_responses_ask_at",
        "ask_at",
        sqlite_where=sa.text("settled_at IS NULL"),
        postgresql_where=sa.text("settled_at IS NULL"),
    ),
    sa.Index("ix_background_responses_settled_at", "settled_at"),
)
_TABLE = BACKGROUND_RESPONSES.c
_RUNS = _TABLE.settled_at.is_(None)
_INSERT = build_insert(BACKGROUND_RESPONSES, ignore_known=True)


class TakenResponse(msgspec.Struct, frozen=True):
    """Hold a response whose provider is to be asked, how often that was done before, and when the
    response was stored."""

    response: BackgroundResponse
    asks: int
    created_at: float


class DueSelection(msgspec.Struct, frozen=True):
    """Say how many responses to take in all, how many of one organization, and of which
    organizations none."""

    rows_max: int
    rows_of_organization_max: int
    without: tuple[str, ...] = ()


def runs(request_id: sa.Column[str]) -> sa.ColumnElement[bool]:
    """Return the condition that the response of this call still runs."""
    return sa.exists().where(_TABLE.request_id == request_id, _RUNS)


def insert(
    connection: sa.Connection,
    response: BackgroundResponse,
    *,
    now: float,
    ask_at: float,
    is_settled: bool = False,
) -> bool:
    """Store a response. Return whether it is new; one that is stored stays as it is."""
    receipt, work = response.receipt, response.work
    row = (
        receipt.request_id,
        receipt.organization_id,
        work.response_id,
        work.status if is_settled else None,
        0,
        ask_at,
        now,
        now if is_settled else None,
        _encode(response).decode(),
    )
    return _INSERT.run(connection, row) == 1


def ask_sooner(connection: sa.Connection, request_id: str, *, ask_at: float) -> None:
    """Ask for a response that runs at this time, if that is sooner than planned."""
    statement = (
        sa.update(BACKGROUND_RESPONSES)
        .where(_TABLE.request_id == request_id, _RUNS, _TABLE.ask_at > ask_at)
        .values(ask_at=ask_at)
    )
    connection.execute(statement)


def find(
    connection: sa.Connection, organization_id: str, response_id: str
) -> BackgroundResponse | None:
    query = (
        sa.select(_TABLE.context, _TABLE.status)
        .where(_TABLE.organization_id == organization_id, _TABLE.response_id == response_id)
        .order_by(_TABLE.created_at.desc())
        .limit(1)
    )
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return msgspec.structs.replace(_decode(row.context), status=row.status)


def is_any_due(connection: sa.Connection, *, now: float) -> bool:
    query = sa.select(sa.exists().where(_RUNS, _TABLE.ask_at <= now))
    return bool(connection.execute(query).scalar_one())


def take_due(
    connection: sa.Connection, selection: DueSelection, *, now: float, leased_until: float
) -> list[TakenResponse]:
    """Return responses whose provider is to be asked now, the longest due first, and lease them
    until then. Rows that another process takes in the same moment are skipped."""
    of_organization = sa.func.row_number().over(
        partition_by=_TABLE.organization_id, order_by=_TABLE.ask_at
    )
    due = (
        sa.select(_TABLE.request_id, of_organization.label("number"))
        .where(_RUNS, _TABLE.ask_at <= now, _TABLE.organization_id.not_in(selection.without))
        .subquery()
    )
    chosen = sa.select(due.c.request_id).where(due.c.number <= selection.rows_of_organization_max)
    query = (
        sa.select(_TABLE.request_id, _TABLE.asks, _TABLE.created_at, _TABLE.context)
        # Once more, for a row that another process has taken since.
        .where(_TABLE.request_id.in_(chosen), _RUNS, _TABLE.ask_at <= now)
        .order_by(_TABLE.ask_at)
        .limit(selection.rows_max)
        .with_for_update(skip_locked=True)
    )
    rows = connection.execute(query).all()
    if rows:
        taken = _TABLE.request_id.in_([row.request_id for row in rows])
        values: dict[str, Any] = {"ask_at": leased_until, "asks": _TABLE.asks + 1}
        connection.execute(sa.update(BACKGROUND_RESPONSES).where(taken).values(values))
    return [TakenResponse(_decode(row.context), row.asks, row.created_at) for row in rows]


def plan_next(connection: sa.Connection, request_ids: Sequence[str], *, ask_at: float) -> None:
    """End the lease of responses that still run."""
    statement = sa.update(BACKGROUND_RESPONSES).where(_TABLE.request_id.in_(request_ids), _RUNS)
    connection.execute(statement.values(ask_at=ask_at))


def end(connection: sa.Connection, request_id: str, status: str, *, now: float) -> bool:
    """Note how a response ended. Return whether it ran until now."""
    of_call = _TABLE.request_id == request_id
    running = sa.update(BACKGROUND_RESPONSES).where(of_call, _RUNS)
    if connection.execute(running.values(status=status, settled_at=now)).rowcount:
        return True
    # What was settled without knowing its end may be known now.
    settled = sa.update(BACKGROUND_RESPONSES).where(of_call, _TABLE.status == "unknown")
    connection.execute(settled.values(status=status))
    return False


def count_running(connection: sa.Connection) -> int:
    query = sa.select(sa.func.count()).select_from(BACKGROUND_RESPONSES).where(_RUNS)
    return connection.execute(query).scalar_one()


def delete_settled(connection: sa.Connection, *, before: float, rows_max: int) -> int:
    """Delete responses that were settled before a time. Return how many."""
    old = sa.select(_TABLE.request_id).where(_TABLE.settled_at < before).limit(rows_max)
    statement = sa.delete(BACKGROUND_RESPONSES).where(_TABLE.request_id.in_(old))
    return connection.execute(statement).rowcount
