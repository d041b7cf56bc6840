"""Limits of capacity: of keys, their counts, and priority pools."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0028"
down_revision = "0027"


def upgrade() -> None:
    """Add two columns and two tables. Older versions do not know them, and enforce no limits."""
    op.add_column("keys", sa.Column("capacity", sa.JSON, nullable=False, server_default="[]"))
    op.add_column(
        "keys", sa.Column("enforce_capacity", sa.Boolean, nullable=False, server_default=sa.true())
    )
    op.create_table(
        "capacity_windows",
        sa.Column("level", sa.Text, nullable=False),
        sa.Column("owner_id", sa.Text, nullable=False),
        sa.Column("counted_limit", sa.Text, nullable=False),
        sa.Column("bucket", sa.Text, nullable=False),
        sa.Column("starts_at", sa.BigInteger, nullable=False),
        sa.Column("ends_at", sa.Double, nullable=False),
        sa.Column("requests", sa.BigInteger, nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("changed_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint(
            *("level", "owner_id", "counted_limit", "bucket", "starts_at"),
            name="pk_capacity_windows",
        ),
    )
    op.create_index("ix_capacity_windows_ends_at", "capacity_windows", ["ends_at"])
    op.create_index("ix_capacity_windows_changed_at", "capacity_windows", ["changed_at"])
    op.create_table(
        "priority_pools",
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("pools", sa.JSON, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("project_id", name="pk_priority_pools"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_priority_pools_project_id"
        ),
    )
    op.create_index("ix_priority_pools_organization_id", "priority_pools", ["organization_id"])


def downgrade() -> None:
    """Drop the tables and columns. What was used is forgotten."""
    op.drop_table("priority_pools")
    op.drop_table("capacity_windows")
    op.drop_column("keys", "enforce_capacity")
    op.drop_column("keys", "capacity")
