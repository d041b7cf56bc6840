"""Deadlines of a credential for its calls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0012"
down_revision = "0011"

NAMES = ("first_byte_seconds", "idle_seconds", "total_seconds")


def upgrade() -> None:
    """Add the columns. Older versions neither read nor write them, and use the settings."""
    for name in NAMES:
        op.add_column("credentials", sa.Column(name, sa.Double))


def downgrade() -> None:
    for name in NAMES:
        op.drop_column("credentials", name)
