"""Metadata, cache status and credits of a receipt."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0013"
down_revision = "0012"


def upgrade() -> None:
    """Add the columns. Older versions leave them at their defaults."""
    for column in (
        sa.Column("metadata", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("cache_status", sa.Text, nullable=False, server_default=sa.text("'bypass'")),
        sa.Column("credit_nano", sa.BigInteger, nullable=False, server_default=sa.text("0")),
    ):
        op.add_column("receipts", column)


def downgrade() -> None:
    for name in ("metadata", "cache_status", "credit_nano"):
        op.drop_column("receipts", name)
