"""People, their roles, sessions and invitations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Organizations can be suspended, projects archived; both count their changes."""
    op.add_column("organizations", sa.Column("suspended_at", sa.Double))
    op.add_column("organizations", version())
    op.add_column("projects", sa.Column("archived_at", sa.Double))
    op.add_column("projects", version())


def downgrade() -> None:
    """Drop the columns."""
    for table, column in (("projects", "archived_at"), ("organizations", "suspended_at")):
        op.drop_column(table, "version")
        op.drop_column(table, column)


def version() -> sa.Column[int]:
    """How often a row was changed."""
    return sa.Column("version", sa.Integer, nullable=False, server_default="1")
