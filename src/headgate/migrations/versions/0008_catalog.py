"""Prices set by an operator, and the catalog settings of organizations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from headgate.kit.db.triggers import forbid_changes_of

revision = "0008"
down_revision = "0007"


def upgrade() -> None:
    """Add the stored rows of the price list, and the settings."""
    op.create_table(
        "prices",
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("integration", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("tier", sa.Text, nullable=False),
        sa.Column("above_input_tokens", sa.BigInteger, nullable=False),
        sa.Column("effective_from", sa.BigInteger, nullable=False),
        sa.Column("currency", sa.Text, nullable=False),
        sa.Column("rates", sa.Text, nullable=False),
        sa.Column("source", sa.Text, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_prices"),
    )
    op.create_index("ix_prices_model", "prices", ["integration", "model", "number"])
    for statement in forbid_changes_of("prices", op.get_bind().dialect.name):
        op.execute(statement)
    op.create_table(
        "catalog_settings",
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("llm_model_visibility", sa.Text, nullable=False),
        sa.Column("composer_llm", sa.Text),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", name="pk_catalog_settings"),
    )


def downgrade() -> None:
    """Drop both. Receipts under prices that were set here cannot be recomputed any more."""
    op.drop_table("catalog_settings")
    op.drop_table("prices")
