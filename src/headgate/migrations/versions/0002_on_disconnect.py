"""The key's policy for responses whose client disconnected; null means the setting's."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    """Add the column; older versions neither read nor write it."""
    op.add_column("keys", sa.Column("on_disconnect", sa.Text))


def downgrade() -> None:
    op.drop_column("keys", "on_disconnect")
