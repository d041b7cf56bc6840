"""Signing secrets of API keys, and the nonces of signed requests."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0024"
down_revision = "0023"


def upgrade() -> None:
    """Add a column and two tables. Older versions do not know them, and check no signatures."""
    op.add_column(
        "keys",
        sa.Column("requires_signature", sa.Boolean, nullable=False, server_default=sa.false()),
    )
    op.create_table(
        "signing_secrets",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("api_key_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("seal_number", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_signing_secrets"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_signing_secrets_organization_id"
        ),
        sa.ForeignKeyConstraint(["api_key_id"], ["keys.id"], name="fk_signing_secrets_api_key_id"),
        sa.ForeignKeyConstraint(
            ["key_id"], ["organization_keys.id"], name="fk_signing_secrets_key_id"
        ),
    )
    op.create_index("ix_signing_secrets_api_key_id", "signing_secrets", ["api_key_id"])
    op.create_index("ix_signing_secrets_key_id", "signing_secrets", ["key_id"])
    op.create_table(
        "request_nonces",
        sa.Column("id", sa.LargeBinary(32), nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_request_nonces"),
    )
    op.create_index("ix_request_nonces_expires_at", "request_nonces", ["expires_at"])


def downgrade() -> None:
    for name in ("request_nonces", "signing_secrets"):
        op.drop_table(name)
    op.drop_column("keys", "requires_signature")
