"""Roll-ups of usage, and the reporting zone of an organization."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0021"
down_revision = "0020"

TEXTS = ("project_id", "key_id", "credential_id", "provider", "model")
SUMS = (
    "requests",
    "completed",
    "errors",
    "cache_hits",
    "input_tokens",
    "cached_tokens",
    "cache_write_tokens",
    "input_audio_tokens",
    "input_image_tokens",
    "output_tokens",
    "reasoning_tokens",
    "output_audio_tokens",
    "output_image_tokens",
    "cost_nano",
    "wallet_nano",
    "credit_nano",
    "latency_count",
    "latency_microseconds",
)


def upgrade() -> None:
    """Add tables and columns. Older versions insert receipts that are rolled up later."""
    op.add_column(
        "receipts",
        sa.Column("rolled_up", sa.SmallInteger, nullable=False, server_default=sa.text("0")),
    )
    op.create_index(
        "ix_receipts_open",
        "receipts",
        ["organization_id", "created_at"],
        sqlite_where=sa.text("rolled_up = 0"),
        postgresql_where=sa.text("rolled_up = 0"),
    )
    op.add_column(
        "organizations",
        sa.Column("reporting_zone", sa.Text, nullable=False, server_default=sa.text("'UTC'")),
    )
    for name in ("usage_quarters", "usage_days"):
        op.create_table(
            name,
            sa.Column("organization_id", sa.Text, nullable=False),
            sa.Column("bucket_at", sa.BigInteger, nullable=False),
            *(sa.Column(each, sa.Text, nullable=False) for each in TEXTS),
            sa.Column("managed", sa.SmallInteger, nullable=False),
            *(sa.Column(each, sa.BigInteger, nullable=False) for each in SUMS),
            sa.Column("histogram", sa.LargeBinary, nullable=False),
            sa.PrimaryKeyConstraint(
                *("organization_id", "bucket_at", *TEXTS, "managed"), name=f"pk_{name}"
            ),
        )
    op.create_table(
        "usage_zones",
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("zone", sa.Text, nullable=False),
        sa.Column("built_until", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("organization_id", name="pk_usage_zones"),
    )


def downgrade() -> None:
    for name in ("usage_quarters", "usage_days", "usage_zones"):
        op.drop_table(name)
    op.drop_column("organizations", "reporting_zone")
    op.drop_index("ix_receipts_open", "receipts")
    op.drop_column("receipts", "rolled_up")
