"""The SQL of deliveries.

A pending delivery is due at `due_at`. Claiming one moves `due_at` to the end of the lease: if the
process that claimed it dies, the delivery is due again then, and no process has to clean up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import BulkInsert, HotStatement
from headgate.kit.failpoint import failpoint
from headgate.webhooks.model.delivery import (
    MICROSECONDS,
    ClaimedDelivery,
    Delivery,
    DeliveryDetails,
    DeliveryFilter,
    DeliveryStatus,
    parse_history,
)

DELIVERIES = sa.Table(
    "webhook_deliveries",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("endpoint_id", sa.Text, nullable=False),
    sa.Column("event_id", sa.Text, nullable=False),
    sa.Column("event_type", sa.Text, nullable=False),
    # The key of the event where the endpoint asks for order, else empty.
    sa.Column("order_key", sa.Text, nullable=False),
    sa.Column("body", sa.LargeBinary, nullable=False),
    sa.Column("created_at", sa.BigInteger, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("due_at", sa.BigInteger, nullable=False),
    sa.Column("attempts", sa.Integer, nullable=False),
    sa.Column("status_code", sa.Integer),
    sa.Column("error", sa.Text, nullable=False),
    sa.Column("latency_microseconds", sa.BigInteger),
    sa.Column("attempted_at", sa.BigInteger),
    sa.Column("history", sa.LargeBinary),
)
_T = DELIVERIES.c
_IS_PENDING = sa.text("status = 'pending'")
"""Written out, since a parameter would hide it from the partial indexes."""
_IS_ORDERED = sa.text("status = 'pending' AND order_key <> ''")

sa.Index(
    "ix_webhook_deliveries_due",
    _T.endpoint_id,
    _T.due_at,
    sqlite_where=_IS_PENDING,
    postgresql_where=_IS_PENDING,
)
sa.Index(
    "ix_webhook_deliveries_order",
    _T.endpoint_id,
    _T.order_key,
    _T.created_at,
    _T.event_id,
    sqlite_where=_IS_ORDERED,
    postgresql_where=_IS_ORDERED,
)
sa.Index("ix_webhook_deliveries_log", _T.endpoint_id, _T.created_at, _T.id)

_INSERT = BulkInsert(DELIVERIES, ignore_known=True)
_FINISH = HotStatement(
    sa.update(DELIVERIES)
    .where(
        _T.id == sa.bindparam("delivery_id"),
        _T.attempts == sa.bindparam("attempts_before"),
        _IS_PENDING,
    )
    .values(
        status=sa.bindparam("new_status"),
        due_at=sa.bindparam("new_due_at"),
        attempts=sa.bindparam("new_attempts"),
        status_code=sa.bindparam("new_status_code"),
        error=sa.bindparam("new_error"),
        latency_microseconds=sa.bindparam("new_latency"),
        attempted_at=sa.bindparam("new_attempted_at"),
        history=sa.bindparam("new_history"),
    ),
    *("new_status", "new_due_at", "new_attempts", "new_status_code", "new_error"),
    *("new_latency", "new_attempted_at", "new_history", "delivery_id", "attempts_before"),
)
DeliveryRow = tuple[Any, ...]
"""A row in the order of the table's columns."""
ResultRow = tuple[str, int, int, int | None, str, int | None, int | None, bytes, str, int]
"""The new status, due_at, attempts, status_code, error, latency, attempted_at and history; then the
id of the delivery, and its attempts before."""


class DueEndpoint(msgspec.Struct, frozen=True):
    """Name an endpoint with pending deliveries. The earliest is due at `due_at` (microseconds)."""

    endpoint_id: str
    due_at: int


def insert_deliveries(connection: sa.Connection, rows: Sequence[DeliveryRow]) -> int:
    """Insert deliveries; return how many were new."""
    inserted = _INSERT.run(connection, rows)
    failpoint("webhook_fan_out")
    return inserted


def select_due_endpoints(connection: sa.Connection) -> list[DueEndpoint]:
    """Return every endpoint that has a pending delivery. Each costs one step in the index, however
    many deliveries wait."""
    pending = sa.select(sa.func.min(_T.endpoint_id)).where(_IS_PENDING)
    first = pending.cte("endpoints", recursive=True)
    each = first.columns[0]
    following = (
        sa.select(sa.func.min(DELIVERIES.alias("d").c.endpoint_id).label("x"))
        .where(sa.text("d.status = 'pending'"), sa.literal_column("d.endpoint_id") > each)
        .scalar_subquery()
    )
    endpoints = first.union_all(sa.select(following).where(each.is_not(None)))
    found = endpoints.columns[0]
    earliest = (
        sa.select(sa.func.min(_T.due_at)).where(_T.endpoint_id == found, _IS_PENDING)
    ).scalar_subquery()
    statement = sa.select(found, earliest).where(found.is_not(None))
    return [DueEndpoint(*row) for row in connection.execute(statement)]


def claim(
    connection: sa.Connection, endpoint_id: str, *, now: int, until: int, limit: int
) -> list[ClaimedDelivery]:
    """Claim due deliveries of an endpoint until a time (both in microseconds), the longest due
    first. Of deliveries with an order key, only the first of each key is claimed."""
    each, earlier = DELIVERIES.alias("each"), DELIVERIES.alias("earlier")
    is_behind = sa.exists().where(
        earlier.c.endpoint_id == each.c.endpoint_id,
        earlier.c.order_key == each.c.order_key,
        sa.text("earlier.status = 'pending' AND earlier.order_key <> ''"),
        sa.or_(
            earlier.c.created_at < each.c.created_at,
            sa.and_(
                earlier.c.created_at == each.c.created_at, earlier.c.event_id < each.c.event_id
            ),
        ),
    )
    due = (
        sa.select(each.c.id)
        .where(
            each.c.endpoint_id == endpoint_id,
            sa.text("each.status = 'pending'"),
            each.c.due_at <= now,
            sa.or_(each.c.order_key == "", ~is_behind),
        )
        .order_by(each.c.due_at, each.c.created_at, each.c.event_id)
        .limit(limit)
        .with_for_update(skip_locked=True, of=each)
    )
    statement = (
        sa.update(DELIVERIES)
        .where(_T.id.in_(due))
        .values(due_at=until)
        .returning(_T.id, _T.endpoint_id, _T.event_id, _T.attempts, _T.body, _T.history)
    )
    return [ClaimedDelivery(*row) for row in connection.execute(statement)]


def finish(connection: sa.Connection, rows: Sequence[ResultRow]) -> None:
    """Store results of attempts. One that somebody else has finished stays as it is."""
    _FINISH.run_all(connection, rows)
    failpoint("webhook_result")


def select_delivery(
    connection: sa.Connection, endpoint_id: str, delivery_id: str
) -> DeliveryDetails | None:
    """Return a delivery of an endpoint."""
    statement = sa.select(DELIVERIES).where(_T.id == delivery_id, _T.endpoint_id == endpoint_id)
    row = connection.execute(statement).one_or_none()
    if row is None:
        return None
    history = parse_history(row.history)
    return DeliveryDetails(delivery=_delivery(row), body=row.body, history=history)


def select_deliveries(
    connection: sa.Connection,
    delivery_filter: DeliveryFilter,
    *,
    after: tuple[int, str] | None,
    limit: int,
) -> list[tuple[int, Delivery]]:
    """Return deliveries, newest first, after the position of a cursor; each with its time in
    microseconds."""
    statement = sa.select(DELIVERIES).where(_T.endpoint_id == delivery_filter.endpoint_id)
    if delivery_filter.status is not None:
        statement = statement.where(_T.status == delivery_filter.status.value)
    if delivery_filter.event_type is not None:
        statement = statement.where(_T.event_type == delivery_filter.event_type)
    if after is not None:
        created_at, delivery_id = after
        statement = statement.where(
            sa.or_(
                _T.created_at < created_at,
                sa.and_(_T.created_at == created_at, _T.id < delivery_id),
            )
        )
    statement = statement.order_by(_T.created_at.desc(), _T.id.desc()).limit(limit)
    return [(row.created_at, _delivery(row)) for row in connection.execute(statement)]


def replay(connection: sa.Connection, endpoint_id: str, delivery_id: str, *, now: int) -> int:
    """Make a delivery due now, with all its attempts before it."""
    chosen = (_T.id == delivery_id, _T.endpoint_id == endpoint_id)
    return connection.execute(sa.update(DELIVERIES).where(*chosen).values(_again(now))).rowcount


def replay_failed(connection: sa.Connection, endpoint_id: str, *, since: int, now: int) -> int:
    """Make all deliveries due that did not arrive and whose event is not older than `since`
    (microseconds); return how many."""
    failed = (
        _T.endpoint_id == endpoint_id,
        _T.created_at >= since,
        sa.or_(
            _T.status == DeliveryStatus.EXHAUSTED.value,
            sa.and_(_T.status == DeliveryStatus.PENDING.value, _T.attempts > 0),
        ),
    )
    return connection.execute(sa.update(DELIVERIES).where(*failed).values(_again(now))).rowcount


def delete_of_endpoint(connection: sa.Connection, endpoint_id: str, *, limit: int) -> int:
    """Delete deliveries of an endpoint that was deleted; return how many."""
    some = sa.select(_T.id).where(_T.endpoint_id == endpoint_id).limit(limit)
    return connection.execute(sa.delete(DELIVERIES).where(_T.id.in_(some))).rowcount


def delete_before(connection: sa.Connection, endpoint_id: str, at: int, *, limit: int) -> int:
    """Delete deliveries of events from before a time in microseconds; return how many."""
    some = sa.select(_T.id).where(_T.endpoint_id == endpoint_id, _T.created_at < at).limit(limit)
    return connection.execute(sa.delete(DELIVERIES).where(_T.id.in_(some))).rowcount


def select_endpoint_ids(connection: sa.Connection) -> list[str]:
    """Return the ids of all endpoints that have deliveries, also of deleted ones."""
    found: list[str] = []
    statement = sa.select(sa.func.min(_T.endpoint_id))
    while (
        following := connection.execute(
            statement.where(_T.endpoint_id > (found[-1] if found else ""))
        ).scalar()
    ) is not None:
        found.append(following)
    return found


def count_pending(connection: sa.Connection) -> tuple[int, int | None]:
    """Return how many deliveries are pending, and the time of the oldest event among them."""
    statement = sa.select(sa.func.count(), sa.func.min(_T.created_at)).where(_IS_PENDING)
    count, oldest = connection.execute(statement.select_from(DELIVERIES)).one()
    return count, oldest


def _again(now: int) -> Mapping[str, Any]:
    return {"status": DeliveryStatus.PENDING.value, "attempts": 0, "due_at": now}


def _delivery(row: sa.Row[Any]) -> Delivery:
    status = DeliveryStatus(row.status)
    return Delivery(
        id=row.id,
        endpoint_id=row.endpoint_id,
        event_id=row.event_id,
        event_type=row.event_type,
        status=status,
        attempts=row.attempts,
        status_code=row.status_code,
        error=row.error,
        latency_microseconds=row.latency_microseconds,
        created_at=row.created_at / MICROSECONDS,
        attempted_at=None if row.attempted_at is None else row.attempted_at / MICROSECONDS,
        next_attempt_at=row.due_at / MICROSECONDS if status is DeliveryStatus.PENDING else None,
    )
