"""Whether a credential's provider is asked for usage in streams."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0010"


def upgrade() -> None:
    """Add the column. Older versions neither read nor write it, and always ask."""
    column = sa.Column("stream_usage", sa.Text, nullable=False, server_default=sa.text("'ask'"))
    op.add_column("credentials", column)


def downgrade() -> None:
    op.drop_column("credentials", "stream_usage")
