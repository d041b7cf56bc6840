"""The months whose invoices are all issued."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0026"
down_revision = "0025"


def upgrade() -> None:
    """Add an empty table. Older versions issue no monthly invoices."""
    op.create_table(
        "invoiced_months",
        sa.Column("month", sa.Text, nullable=False),
        sa.Column("completed_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("month", name="pk_invoiced_months"),
    )


def downgrade() -> None:
    """Drop the table. The invoices stay, and none is issued twice."""
    op.drop_table("invoiced_months")
