"""Automatic top-ups, and what orders know of them."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0022"
down_revision = "0021"


def upgrade() -> None:
    """Add an empty table, and columns that older versions leave at their defaults."""
    op.create_table(
        "auto_top_ups",
        sa.Column("organization_id", sa.Text, nullable=False),
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
        sa.PrimaryKeyConstraint("organization_id", name="pk_auto_top_ups"),
    )
    op.create_index("ix_auto_top_ups_payment_method_id", "auto_top_ups", ["payment_method_id"])
    for column in (
        sa.Column("kind", sa.Text, nullable=False, server_default=sa.text("'checkout'")),
        sa.Column("save_payment_method", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("attempted_at", sa.Double, nullable=False, server_default=sa.text("0")),
    ):
        op.add_column("payment_orders", column)
    pending = sa.text("kind = 'automatic' AND status = 'pending'")
    op.create_index(
        "uq_payment_orders_automatic",
        "payment_orders",
        ["organization_id"],
        unique=True,
        sqlite_where=pending,
        postgresql_where=pending,
    )


def downgrade() -> None:
    """Drop the settings of automatic top-ups, and what orders know of them."""
    op.drop_index("uq_payment_orders_automatic", "payment_orders")
    for name in ("attempted_at", "save_payment_method", "kind"):
        op.drop_column("payment_orders", name)
    op.drop_table("auto_top_ups")
