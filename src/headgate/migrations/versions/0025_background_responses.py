"""Responses that run in the background."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0025"
down_revision = "0024"


def upgrade() -> None:
    """Create the empty table. Older versions bill such a response when it begins, at its hold."""
    op.create_table(
        "background_responses",
        sa.Column("request_id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("response_id", sa.Text, nullable=False),
        sa.Column("status", sa.Text),
        sa.Column("asks", sa.Integer, nullable=False),
        sa.Column("ask_at", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("settled_at", sa.Double),
        sa.Column("context", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("request_id", name="pk_background_responses"),
    )
    op.create_index(
        "ix_background_responses_response_id",
        "background_responses",
        ["organization_id", "response_id"],
    )
    runs = sa.text("settled_at IS NULL")
    op.create_index(
        "ix_background_responses_ask_at",
        "background_responses",
        ["ask_at"],
        sqlite_where=runs,
        postgresql_where=runs,
    )
    op.create_index("ix_background_responses_settled_at", "background_responses", ["settled_at"])


def downgrade() -> None:
    """Drop the table. The holds of responses that run are resolved when their leases end."""
    op.drop_table("background_responses")
