"""Stored responses of the platform API for idempotent requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0010"
down_revision = "0009"


def upgrade() -> None:
    op.create_table(
        "repetitions",
        sa.Column("claim", sa.LargeBinary(32), nullable=False),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("claim", name="pk_repetitions"),
    )
    op.create_index("ix_repetitions_created_at", "repetitions", ["created_at"])


def downgrade() -> None:
    op.drop_table("repetitions")
