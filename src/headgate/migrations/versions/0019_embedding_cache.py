"""The cache of embeddings."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0019"
down_revision = "0018"


def upgrade() -> None:
    op.create_table(
        "embedding_cache",
        sa.Column("id", sa.LargeBinary(32), nullable=False),
        sa.Column("box", sa.LargeBinary, nullable=False),
        sa.Column("size", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_embedding_cache"),
    )
    op.create_index("ix_embedding_cache_created_at", "embedding_cache", ["created_at"])


def downgrade() -> None:
    op.drop_table("embedding_cache")
