"""Keys can be limited to some tools."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0030"
down_revision = "0029"


def upgrade() -> None:
    """Add an empty list. Older versions offer no tools."""
    op.add_column("keys", sa.Column("tools", sa.JSON, nullable=False, server_default="[]"))


def downgrade() -> None:
    """Drop the lists: keys that were limited to some tools are so no more."""
    op.drop_column("keys", "tools")
