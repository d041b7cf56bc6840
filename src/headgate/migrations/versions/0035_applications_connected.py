"""Connected applications: since when each one has had tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0035"
down_revision = "0034"


def upgrade() -> None:
    """Add a column. Applications that are there count as connected, so none of them is revoked."""
    op.add_column("connected_applications", sa.Column("connected_at", sa.Double))
    op.execute("UPDATE connected_applications SET connected_at = created_at")


def downgrade() -> None:
    """Drop the column."""
    op.drop_column("connected_applications", "connected_at")
