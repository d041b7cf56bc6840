"""Work that may be repeated, and when it was started."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0031"
down_revision = "0030"


def upgrade() -> None:
    op.create_table(
        "repeatable_work",
        sa.Column("id", sa.LargeBinary(32), nullable=False),
        sa.Column("nonce", sa.LargeBinary(16), nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_repeatable_work"),
    )
    op.create_index("ix_repeatable_work_started_at", "repeatable_work", ["started_at"])


def downgrade() -> None:
    op.drop_table("repeatable_work")
