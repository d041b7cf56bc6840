"""Webhook endpoints, their secrets and deliveries; an index on the time of events."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0018"
down_revision = "0017"


def _text(name: str, *, nullable: bool = False) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=nullable)


def _number(name: str, *, nullable: bool = False) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=nullable)


def upgrade() -> None:
    """Add the tables. Older versions do not know them."""
    op.create_index("ix_outbox_created_at", "outbox", ["created_at"])
    _create_endpoints()
    _create_secrets()
    _create_deliveries()


def _create_endpoints() -> None:
    op.create_table(
        "webhook_endpoints",
        _text("id"),
        _text("organization_id"),
        _text("url"),
        sa.Column("enabled_events", sa.JSON, nullable=False),
        _text("description"),
        sa.Column("ordered", sa.Boolean, nullable=False),
        sa.Column("disabled_at", sa.Double),
        _text("disabled_reason", nullable=True),
        sa.Column("failing_since", sa.Double),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_endpoints"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_webhook_endpoints_organization_id"
        ),
    )
    op.create_index(
        "ix_webhook_endpoints_organization_id", "webhook_endpoints", ["organization_id"]
    )


def _create_secrets() -> None:
    op.create_table(
        "webhook_secrets",
        _text("id"),
        _text("organization_id"),
        _text("endpoint_id"),
        _text("name"),
        sa.Column("sealed", sa.LargeBinary),
        _text("key_id"),
        _number("seal_number"),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_secrets"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_webhook_secrets_organization_id"
        ),
        sa.ForeignKeyConstraint(
            ["key_id"], ["organization_keys.id"], name="fk_webhook_secrets_key_id"
        ),
    )
    op.create_index("ix_webhook_secrets_endpoint_id", "webhook_secrets", ["endpoint_id"])
    op.create_index("ix_webhook_secrets_key_id", "webhook_secrets", ["key_id"])


def _create_deliveries() -> None:
    op.create_table(
        "webhook_deliveries",
        *map(_text, ("id", "organization_id", "endpoint_id", "event_id", "event_type")),
        _text("order_key"),
        sa.Column("body", sa.LargeBinary, nullable=False),
        _number("created_at"),
        _text("status"),
        _number("due_at"),
        sa.Column("attempts", sa.Integer, nullable=False),
        sa.Column("status_code", sa.Integer),
        _text("error"),
        _number("latency_microseconds", nullable=True),
        _number("attempted_at", nullable=True),
        sa.PrimaryKeyConstraint("id", name="pk_webhook_deliveries"),
    )
    is_pending = sa.text("status = 'pending'")
    is_ordered = sa.text("status = 'pending' AND order_key <> ''")
    op.create_index(
        "ix_webhook_deliveries_due",
        "webhook_deliveries",
        ["endpoint_id", "due_at"],
        sqlite_where=is_pending,
        postgresql_where=is_pending,
    )
    op.create_index(
        "ix_webhook_deliveries_order",
        "webhook_deliveries",
        ["endpoint_id", "order_key", "created_at", "event_id"],
        sqlite_where=is_ordered,
        postgresql_where=is_ordered,
    )
    op.create_index(
        "ix_webhook_deliveries_log", "webhook_deliveries", ["endpoint_id", "created_at", "id"]
    )


def downgrade() -> None:
    for name in ("webhook_deliveries", "webhook_secrets", "webhook_endpoints"):
        op.drop_table(name)
    op.drop_index("ix_outbox_created_at", "outbox")
