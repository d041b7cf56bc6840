"""Further limits of keys, and their rotation."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns; existing keys keep their permissions."""
    for column in columns():
        op.add_column("keys", column)
    op.create_index("ix_keys_listing", "keys", ["organization_id", "created_at", "id"])
    op.create_index("ix_keys_changed_at_revision", "keys", ["changed_at_revision"])


def downgrade() -> None:
    """Drop the columns, and with them the limits that they stored."""
    op.drop_index("ix_keys_changed_at_revision", "keys")
    op.drop_index("ix_keys_listing", "keys")
    for column in reversed(columns()):
        op.drop_column("keys", column.name)


def columns() -> list[sa.Column[object]]:
    return [
        *(
            sa.Column(name, sa.JSON, nullable=False, server_default="[]")
            for name in ("projects", "networks", "resources", "permissions")
        ),
        sa.Column("tokens_per_minute", sa.Integer, nullable=False, server_default="0"),
        sa.Column("monthly_budget_nano", sa.BigInteger),
        sa.Column("description", sa.Text, nullable=False, server_default=""),
        sa.Column("labels", sa.JSON, nullable=False, server_default="{}"),
        sa.Column("last_used_at", sa.Double),
        sa.Column("rotated_at", sa.Double),
        sa.Column("previous_digest", sa.LargeBinary(32)),
        sa.Column("previous_expires_at", sa.Double),
        sa.Column("version", sa.Integer, nullable=False, server_default="1"),
        sa.Column("changed_at_revision", sa.BigInteger, nullable=False, server_default="0"),
    ]
