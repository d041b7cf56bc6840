"""What the budget of a key counts, and which parts of it are announced."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0016"
down_revision = "0015"


def upgrade() -> None:
    """Add the columns. Older versions leave them at their defaults."""
    for column in (
        sa.Column("budget_managed_only", sa.Boolean, nullable=False, server_default=sa.false()),
        sa.Column("budget_thresholds", sa.JSON, nullable=False, server_default="[50, 80, 100]"),
    ):
        op.add_column("keys", column)


def downgrade() -> None:
    for name in ("budget_thresholds", "budget_managed_only"):
        op.drop_column("keys", name)
