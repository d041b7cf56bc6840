"""The audit log: who did what to which object, from where, in a chain of hashes."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from headgate.kit.db.triggers import forbid_changes_of

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the log, and the table that has its last number and hash."""
    op.create_table(
        "audit",
        sa.Column("number", sa.BigInteger, nullable=False, autoincrement=False),
        sa.Column("at", sa.BigInteger, nullable=False),
        sa.Column("actor_kind", sa.Text, nullable=False),
        sa.Column("actor_id", sa.Text, nullable=False),
        sa.Column("actor_name", sa.Text, nullable=False),
        sa.Column("address", sa.Text, nullable=False),
        sa.Column("user_agent", sa.Text, nullable=False),
        sa.Column("action", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text),
        sa.Column("object_id", sa.Text, nullable=False),
        sa.Column("changes", sa.Text, nullable=False),
        sa.Column("previous_hash", sa.LargeBinary(32), nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("number", name="pk_audit"),
    )
    op.create_index("ix_audit_organization_id", "audit", ["organization_id", "number"])
    op.create_index("ix_audit_object_id", "audit", ["object_id", "number"])
    for statement in forbid_changes_of("audit", op.get_bind().dialect.name):
        op.execute(statement)
    op.create_table(
        "audit_heads",
        sa.Column("id", sa.Integer, nullable=False, autoincrement=False),
        sa.Column("number", sa.BigInteger, nullable=False),
        sa.Column("hash", sa.LargeBinary(32), nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_audit_heads"),
    )


def downgrade() -> None:
    """Drop both, with all entries."""
    op.drop_table("audit_heads")
    op.drop_table("audit")
