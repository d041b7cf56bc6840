"""Plans that an operator defines, and the subscriptions of organizations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from headgate.kit.db.triggers import forbid_changes_of

revision = "0014"
down_revision = "0013"


def upgrade() -> None:
    """Create both tables. Older versions let the wallet pay for everything."""
    op.create_table(
        "plans",
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("effective_from", sa.Double, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("credits_per_month", sa.BigInteger, nullable=False),
        sa.Column("overage", sa.SmallInteger, nullable=False),
        sa.Column("price_nano", sa.BigInteger),
        sa.Column("limits", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_plans"),
    )
    op.create_index("ix_plans_id", "plans", ["id", "effective_from", "number"])
    op.create_table(
        "subscriptions",
        sa.Column("version", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("plan_id", sa.Text),
        sa.Column("overage", sa.SmallInteger, nullable=False),
        sa.Column("effective_from", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("version", name="pk_subscriptions"),
    )
    op.create_index(
        "ix_subscriptions_organization_id",
        "subscriptions",
        ["organization_id", "effective_from", "version"],
    )
    for table in ("plans", "subscriptions"):
        for statement in forbid_changes_of(table, op.get_bind().dialect.name):
            op.execute(statement)


def downgrade() -> None:
    """Drop both. Organizations with a plan become prepaid."""
    op.drop_table("subscriptions")
    op.drop_table("plans")
