"""Budgets, what was used of them in each month, and holds that count in a month."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0015"
down_revision = "0014"


def upgrade() -> None:
    """Create the tables and add the columns. Older versions neither count nor hold for budgets."""
    op.create_table(
        "budgets",
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("scope_id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("limit_nano", sa.BigInteger, nullable=False),
        sa.Column("managed_only", sa.SmallInteger, nullable=False),
        sa.Column("thresholds", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("scope", "scope_id", name="pk_budgets"),
        sa.CheckConstraint("limit_nano >= 0", name="ck_budgets_limit"),
    )
    op.create_index("ix_budgets_organization_id", "budgets", ["organization_id"])
    op.create_table(
        "budget_months",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("scope_id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("month", sa.Text, nullable=False),
        sa.Column("used_nano", sa.BigInteger, nullable=False),
        sa.Column("held_nano", sa.BigInteger, nullable=False),
        sa.Column("managed_used_nano", sa.BigInteger, nullable=False),
        sa.Column("managed_held_nano", sa.BigInteger, nullable=False),
        sa.Column("announced", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_budget_months"),
        sa.CheckConstraint("held_nano >= 0", name="ck_budget_months_held"),
    )
    op.create_index(
        "ix_budget_months_organization_id", "budget_months", ["organization_id", "month"]
    )
    op.add_column(
        "holds", sa.Column("managed", sa.SmallInteger, nullable=False, server_default=sa.text("1"))
    )
    op.add_column(
        "holds", sa.Column("month", sa.Text, nullable=False, server_default=sa.text("''"))
    )


def downgrade() -> None:
    op.drop_column("holds", "month")
    op.drop_column("holds", "managed")
    op.drop_table("budget_months")
    op.drop_table("budgets")
