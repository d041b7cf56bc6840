"""Claims of model calls with an idempotency key, and their stored answers."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0017"
down_revision = "0016"


def upgrade() -> None:
    op.create_table(
        "idempotency_claims",
        sa.Column("id", sa.LargeBinary(32), nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("digest", sa.LargeBinary(32)),
        sa.Column("owner", sa.Text, nullable=False),
        sa.Column("previous", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("runs", sa.Integer, nullable=False),
        sa.Column("lease_until", sa.Double, nullable=False),
        sa.Column("answer", sa.LargeBinary, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_idempotency_claims"),
    )
    op.create_index("ix_idempotency_claims_created_at", "idempotency_claims", ["created_at"])


def downgrade() -> None:
    op.drop_table("idempotency_claims")
