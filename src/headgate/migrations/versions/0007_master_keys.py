"""Master keys wrapped by a key service, and resumable rotations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0007"
down_revision = "0006"

ZERO = sa.text("0")


def upgrade() -> None:
    """Add columns whose defaults describe older rows, and the table of rotations."""
    op.add_column(
        "master_keys", sa.Column("provider", sa.Text, nullable=False, server_default="local")
    )
    op.add_column("master_keys", sa.Column("key_name", sa.Text))
    op.add_column("master_keys", sa.Column("wrapped", sa.LargeBinary))
    op.add_column(
        "master_keys", sa.Column("state", sa.Text, nullable=False, server_default="active")
    )
    op.add_column(
        "master_keys", sa.Column("seals", sa.BigInteger, nullable=False, server_default=ZERO)
    )
    op.add_column("master_keys", sa.Column("retired_at", sa.Double))
    op.add_column("organization_keys", sa.Column("next_wrapped", sa.LargeBinary))
    op.add_column(
        "organization_keys", sa.Column("seals", sa.BigInteger, nullable=False, server_default=ZERO)
    )
    op.add_column("organization_keys", sa.Column("retired_at", sa.Double))
    op.add_column(
        "credentials", sa.Column("seal_number", sa.BigInteger, nullable=False, server_default=ZERO)
    )
    op.create_index("ix_credentials_key_id", "credentials", ["key_id"])
    op.create_table(
        "rotations",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("kind", sa.Text, nullable=False),
        sa.Column("scope", sa.Text, nullable=False),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("done", sa.BigInteger, nullable=False),
        sa.Column("total", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.BigInteger, nullable=False),
        sa.Column("started_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("finished_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_rotations"),
    )
    running = sa.text("state = 'running'")
    op.create_index(
        "uq_rotations_kind",
        "rotations",
        ["kind"],
        unique=True,
        sqlite_where=running,
        postgresql_where=running,
    )


def downgrade() -> None:
    """Drop them. The version before cannot open what was sealed since."""
    op.drop_table("rotations")
    op.drop_index("ix_credentials_key_id", "credentials")
    op.drop_column("credentials", "seal_number")
    for column in ("retired_at", "seals", "next_wrapped"):
        op.drop_column("organization_keys", column)
    for column in ("retired_at", "seals", "state", "wrapped", "key_name", "provider"):
        op.drop_column("master_keys", column)
