"""The last attempts of each webhook delivery."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0023"
down_revision = "0022"


def upgrade() -> None:
    """Add the column. Older versions leave it as it is."""
    op.add_column("webhook_deliveries", sa.Column("history", sa.LargeBinary))


def downgrade() -> None:
    op.drop_column("webhook_deliveries", "history")
