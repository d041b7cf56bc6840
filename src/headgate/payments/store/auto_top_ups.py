"""The SQL of automatic top-ups."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import build_insert
from headgate.payments.model.auto_top_up import AutoTopUp
from headgate.payments.model.order import PaymentOrder
from headgate.payments.store.orders import PAYMENT_ORDERS, select_where

AUTO_TOP_UPS = sa.Table(
    "auto_top_ups",
    METADATA,
    sa.Column("organization_id", sa.Text, primary_key=True),
    sa.Column("enabled", sa.Boolean, nullable=False),
    sa.Column("threshold_nano", sa.BigInteger, nullable=False),
    sa.Column("amount_cents", sa.BigInteger, nullable=False),
    sa.Column("month_cents", sa.BigInteger),
    sa.Column("payment_method_id", sa.Text),
    sa.Column("method_order_id", sa.Text, nullable=False),
    sa.Column("failures", sa.Integer, nullable=False),
    sa.Column("failure", sa.Text),
    sa.Column("retry_at", sa.Double, nullable=False),
    sa.Column("capped_month", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Index("ix_auto_top_ups_payment_method_id", "payment_method_id"),
)
_INSERT = build_insert(AUTO_TOP_UPS, ignore_known=True)
_COLUMNS = [AUTO_TOP_UPS.c[name] for name in AutoTopUp.__struct_fields__]
_PENDING = (PAYMENT_ORDERS.c.kind == "automatic", PAYMENT_ORDERS.c.status == "pending")


def _to_auto_top_up(row: sa.Row[Any]) -> AutoTopUp:
    return AutoTopUp(**dict(zip(AutoTopUp.__struct_fields__, row, strict=True)))


def find_auto_top_up(connection: sa.Connection, organization_id: str) -> AutoTopUp:
    """Return the automatic top-up of an organization; a disabled one where none was ever set."""
    query = sa.select(*_COLUMNS).where(AUTO_TOP_UPS.c.organization_id == organization_id)
    row = connection.execute(query).first()
    return AutoTopUp(organization_id=organization_id) if row is None else _to_auto_top_up(row)


def update_auto_top_up(connection: sa.Connection, organization_id: str, **values: Any) -> None:
    """Change an automatic top-up; the version counts the changes."""
    _INSERT.run(connection, msgspec.structs.astuple(AutoTopUp(organization_id=organization_id)))
    connection.execute(
        sa.update(AUTO_TOP_UPS)
        .where(AUTO_TOP_UPS.c.organization_id == organization_id)
        .values(**values, version=AUTO_TOP_UPS.c.version + 1)
    )


def select_ready(connection: sa.Connection, *, now: float, month: str) -> list[AutoTopUp]:
    """Return what may be tried now and has not reached the maximum of this month."""
    query = sa.select(*_COLUMNS).where(
        AUTO_TOP_UPS.c.enabled.is_(True),
        AUTO_TOP_UPS.c.payment_method_id.is_not(None),
        AUTO_TOP_UPS.c.retry_at <= now,
        AUTO_TOP_UPS.c.capped_month != month,
    )
    return [_to_auto_top_up(row) for row in connection.execute(query)]


def select_of_method(connection: sa.Connection, payment_method_id: str) -> list[AutoTopUp]:
    query = sa.select(*_COLUMNS).where(AUTO_TOP_UPS.c.payment_method_id == payment_method_id)
    return [_to_auto_top_up(row) for row in connection.execute(query)]


def select_pending(connection: sa.Connection, *, attempted_before: float) -> list[PaymentOrder]:
    """Return automatic payments of unknown outcome that nobody works on."""
    return select_where(connection, *_PENDING, PAYMENT_ORDERS.c.attempted_at < attempted_before)


def has_pending(connection: sa.Connection, organization_id: str) -> bool:
    """Return whether an automatic payment of an organization is under way."""
    mine = PAYMENT_ORDERS.c.organization_id == organization_id
    query = sa.select(sa.literal(1)).where(*_PENDING, mine).limit(1)
    return connection.execute(query).first() is not None


def claim_attempt(
    connection: sa.Connection, order_id: str, *, attempted_before: float, now: float
) -> bool:
    """Note an attempt to make a pending payment, if nobody else works on it. Return whether it was
    noted."""
    update = (
        sa.update(PAYMENT_ORDERS)
        .where(
            PAYMENT_ORDERS.c.id == order_id,
            *_PENDING,
            PAYMENT_ORDERS.c.attempted_at < attempted_before,
        )
        .values(attempted_at=now)
    )
    return connection.execute(update).rowcount == 1


def sum_automatic(connection: sa.Connection, organization_id: str, *, since: float) -> int:
    """Return the cents of automatic payments since a time that are made or may still be."""
    query = sa.select(sa.func.coalesce(sa.func.sum(PAYMENT_ORDERS.c.amount_cents), 0)).where(
        PAYMENT_ORDERS.c.organization_id == organization_id,
        PAYMENT_ORDERS.c.kind == "automatic",
        PAYMENT_ORDERS.c.status.in_(("pending", "paid")),
        PAYMENT_ORDERS.c.created_at >= since,
    )
    # The sum of integers is a decimal in PostgreSQL.
    return int(connection.execute(query).scalar_one())
