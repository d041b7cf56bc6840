"""The SQL of orders, of provider messages that were handled, and of wallet settings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA, declare_unique
from headgate.kit.db.statement import build_insert
from headgate.payments.model.order import OrderStatus, PaymentOrder
from headgate.payments.model.wallet_settings import WalletSettings


def _count(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False, server_default="0")


PAYMENT_ORDERS = sa.Table(
    "payment_orders",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("provider", sa.Text, nullable=False),
    sa.Column("amount_cents", sa.BigInteger, nullable=False),
    sa.Column("currency", sa.Text, nullable=False),
    sa.Column("status", sa.Text, nullable=False),
    sa.Column("claim", sa.Text),
    sa.Column("session_id", sa.Text),
    sa.Column("url", sa.Text),
    sa.Column("payment_id", sa.Text),
    sa.Column("failure", sa.Text),
    _count("refunded_cents"),
    _count("disputed_cents"),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("paid_at", sa.Double),
    # With defaults, so that an older version can still insert.
    sa.Column("kind", sa.Text, nullable=False, server_default=sa.text("'checkout'")),
    sa.Column("save_payment_method", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("attempted_at", sa.Double, nullable=False, server_default=sa.text("0")),
    sa.CheckConstraint("amount_cents > 0", name="amount"),
    sa.CheckConstraint("status IN ('pending', 'paid', 'failed', 'expired')", name="status"),
    sa.CheckConstraint("refunded_cents >= 0 AND disputed_cents >= 0", name="returned"),
    sa.Index("ix_payment_orders_organization_id", "organization_id", "id"),
)
declare_unique("uq_payment_orders_claim", PAYMENT_ORDERS.c.claim)
declare_unique(
    "uq_payment_orders_payment_id", PAYMENT_ORDERS.c.provider, PAYMENT_ORDERS.c.payment_id
)
# Of all processes and attempts, one automatic top-up of an organization is under way at a time.
declare_unique(
    "uq_payment_orders_automatic",
    PAYMENT_ORDERS.c.organization_id,
    where=sa.literal_column("kind = 'automatic' AND status = 'pending'", sa.Boolean),
)

PAYMENT_EVENTS = sa.Table(
    "payment_events",
    METADATA,
    sa.Column("provider", sa.Text, primary_key=True),
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("type", sa.Text, nullable=False),
    sa.Column("order_id", sa.Text, nullable=False),
    sa.Column("outcome", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
)
_INSERT_EVENT = build_insert(PAYMENT_EVENTS, ignore_known=True)

WALLET_SETTINGS = sa.Table(
    "wallet_settings",
    METADATA,
    sa.Column("organization_id", sa.Text, primary_key=True),
    sa.Column("customer_id", sa.Text),
    sa.Column("billing_name", sa.Text, nullable=False),
    sa.Column("billing_address", sa.Text, nullable=False),
    sa.Column("tax_id", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
)
_INSERT_SETTINGS = build_insert(WALLET_SETTINGS, ignore_known=True)
_ORDER = [PAYMENT_ORDERS.c[name] for name in PaymentOrder.__struct_fields__]
_SETTINGS = [WALLET_SETTINGS.c[name] for name in WalletSettings.__struct_fields__]


def _to_order(row: sa.Row[Any]) -> PaymentOrder:
    return PaymentOrder(**dict(zip(PaymentOrder.__struct_fields__, row, strict=True)))


def insert_order(connection: sa.Connection, order: PaymentOrder) -> None:
    connection.execute(sa.insert(PAYMENT_ORDERS).values(msgspec.structs.asdict(order)))


def find_order(connection: sa.Connection, order_id: str) -> PaymentOrder | None:
    return _find(connection, PAYMENT_ORDERS.c.id == order_id)


def lock_order(connection: sa.Connection, order_id: str) -> PaymentOrder | None:
    """Return an order, and lock it until the transaction ends."""
    query = sa.select(*_ORDER).where(PAYMENT_ORDERS.c.id == order_id).with_for_update()
    row = connection.execute(query).first()
    return None if row is None else _to_order(row)


def find_order_of_claim(connection: sa.Connection, claim: str) -> PaymentOrder | None:
    return _find(connection, PAYMENT_ORDERS.c.claim == claim)


def find_order_of_payment(
    connection: sa.Connection, provider: str, payment_id: str
) -> PaymentOrder | None:
    return _find(
        connection, PAYMENT_ORDERS.c.provider == provider, PAYMENT_ORDERS.c.payment_id == payment_id
    )


def _find(connection: sa.Connection, *conditions: sa.ColumnElement[bool]) -> PaymentOrder | None:
    row = connection.execute(sa.select(*_ORDER).where(*conditions)).first()
    return None if row is None else _to_order(row)


def select_where(
    connection: sa.Connection, *conditions: sa.ColumnElement[bool]
) -> list[PaymentOrder]:
    return [_to_order(row) for row in connection.execute(sa.select(*_ORDER).where(*conditions))]


def select_orders(
    connection: sa.Connection, organization_id: str, *, before: str | None, limit: int
) -> list[PaymentOrder]:
    """Return orders, newest first, of those with a smaller id than `before`."""
    query = (
        sa.select(*_ORDER)
        .where(PAYMENT_ORDERS.c.organization_id == organization_id)
        .order_by(PAYMENT_ORDERS.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(PAYMENT_ORDERS.c.id < before)
    return [_to_order(row) for row in connection.execute(query)]


def update_order(connection: sa.Connection, order_id: str, **values: Any) -> None:
    connection.execute(
        sa.update(PAYMENT_ORDERS).where(PAYMENT_ORDERS.c.id == order_id).values(**values)
    )


def change_status(
    connection: sa.Connection,
    order_id: str,
    status: OrderStatus,
    *,
    among: Sequence[OrderStatus],
    **values: Any,
) -> bool:
    """Change the status of an order that has one of those statuses. Return whether it had."""
    update = (
        sa.update(PAYMENT_ORDERS)
        .where(PAYMENT_ORDERS.c.id == order_id, PAYMENT_ORDERS.c.status.in_(among))
        .values(status=status, **values)
    )
    return connection.execute(update).rowcount == 1


def insert_event(
    connection: sa.Connection,
    provider: str,
    event_id: str,
    *,
    type_: str,
    order_id: str,
    outcome: str,
    now: float,
) -> bool:
    """Note a message of a provider. Return False if it was noted before."""
    return _INSERT_EVENT.run(connection, (provider, event_id, type_, order_id, outcome, now)) == 1


def find_event_outcome(connection: sa.Connection, provider: str, event_id: str) -> str | None:
    query = sa.select(PAYMENT_EVENTS.c.outcome).where(
        PAYMENT_EVENTS.c.provider == provider, PAYMENT_EVENTS.c.id == event_id
    )
    return connection.execute(query).scalar_one_or_none()


def find_settings(connection: sa.Connection, organization_id: str) -> WalletSettings:
    """Return the settings of a wallet; the defaults where nothing was ever set."""
    query = sa.select(*_SETTINGS).where(WALLET_SETTINGS.c.organization_id == organization_id)
    row = connection.execute(query).first()
    return WalletSettings(organization_id=organization_id) if row is None else _to_settings(row)


def _to_settings(row: sa.Row[Any]) -> WalletSettings:
    return WalletSettings(**dict(zip(WalletSettings.__struct_fields__, row, strict=True)))


def update_settings(connection: sa.Connection, organization_id: str, **values: Any) -> None:
    """Change settings; the version counts the changes."""
    new = WalletSettings(organization_id=organization_id)
    _INSERT_SETTINGS.run(connection, msgspec.structs.astuple(new))
    connection.execute(
        sa.update(WALLET_SETTINGS)
        .where(WALLET_SETTINGS.c.organization_id == organization_id)
        .values(**values, version=WALLET_SETTINGS.c.version + 1)
    )
