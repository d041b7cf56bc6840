"""Payments into wallets, the settings of wallets, and invoices."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from headgate.kit.db.triggers import forbid_changes_of

revision = "0020"
down_revision = "0019"

TABLES = (
    "invoice_numbers",
    "invoice_payments",
    "invoices",
    "wallet_settings",
    "payment_events",
    "payment_orders",
)


def _text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def _number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def _time(name: str) -> sa.Column[float]:
    return sa.Column(name, sa.Double, nullable=False)


def upgrade() -> None:
    """Add the empty tables, and an index for the statement of a wallet. Older versions do not know
    them."""
    op.create_index("ix_entries_account_id", "entries", ["account_id", "id"])
    _create_orders()
    op.create_table(
        "payment_events",
        _text("provider"),
        _text("id"),
        _text("type"),
        _text("order_id"),
        _text("outcome"),
        _time("created_at"),
        sa.PrimaryKeyConstraint("provider", "id", name="pk_payment_events"),
    )
    op.create_table(
        "wallet_settings",
        _text("organization_id"),
        sa.Column("customer_id", sa.Text),
        _text("billing_name"),
        _text("billing_address"),
        _text("tax_id"),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", name="pk_wallet_settings"),
    )
    _create_invoices()


def _create_orders() -> None:
    op.create_table(
        "payment_orders",
        _text("id"),
        _text("organization_id"),
        _text("provider"),
        _number("amount_cents"),
        _text("currency"),
        _text("status"),
        sa.Column("claim", sa.Text),
        sa.Column("session_id", sa.Text),
        sa.Column("url", sa.Text),
        sa.Column("payment_id", sa.Text),
        sa.Column("failure", sa.Text),
        sa.Column("refunded_cents", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("disputed_cents", sa.BigInteger, nullable=False, server_default="0"),
        _time("created_at"),
        sa.Column("paid_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_payment_orders"),
        sa.CheckConstraint("amount_cents > 0", name="ck_payment_orders_amount"),
        sa.CheckConstraint(
            "status IN ('pending', 'paid', 'failed', 'expired')", name="ck_payment_orders_status"
        ),
        sa.CheckConstraint(
            "refunded_cents >= 0 AND disputed_cents >= 0", name="ck_payment_orders_returned"
        ),
    )
    op.create_index(
        "ix_payment_orders_organization_id", "payment_orders", ["organization_id", "id"]
    )
    op.create_index("uq_payment_orders_claim", "payment_orders", ["claim"], unique=True)
    op.create_index(
        "uq_payment_orders_payment_id", "payment_orders", ["provider", "payment_id"], unique=True
    )


def _create_invoices() -> None:
    op.create_table(
        "invoices",
        _text("id"),
        _text("organization_id"),
        _number("number"),
        _text("kind"),
        _text("reference"),
        _number("total_nano"),
        _time("issued_at"),
        _text("document"),
        sa.PrimaryKeyConstraint("id", name="pk_invoices"),
    )
    op.create_index("ix_invoices_organization_id", "invoices", ["organization_id", "id"])
    op.create_index("uq_invoices_number", "invoices", ["number"], unique=True)
    op.create_index("uq_invoices_reference", "invoices", ["reference"], unique=True)
    op.create_table(
        "invoice_payments",
        _text("invoice_id"),
        _time("paid_at"),
        sa.PrimaryKeyConstraint("invoice_id", name="pk_invoice_payments"),
    )
    for table in ("invoices", "invoice_payments"):
        for statement in forbid_changes_of(table, op.get_bind().dialect.name):
            op.execute(statement)
    op.create_table(
        "invoice_numbers",
        _text("series"),
        _number("last"),
        sa.PrimaryKeyConstraint("series", name="pk_invoice_numbers"),
    )


def downgrade() -> None:
    """Drop the tables, with all payments and invoices. The ledger keeps what was credited."""
    for table in TABLES:
        op.drop_table(table)
    op.drop_index("ix_entries_account_id", "entries")
