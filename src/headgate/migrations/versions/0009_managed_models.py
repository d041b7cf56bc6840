"""Managed models, each with the credential that serves it."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0009"
down_revision = "0008"


def upgrade() -> None:
    """Add the empty table. While it is empty, any managed credential serves any model."""
    op.create_table(
        "managed_models",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("model_id", sa.Text, nullable=False),
        sa.Column("credential_id", sa.Text, nullable=False),
        sa.Column("wire_id", sa.Text, nullable=False),
        sa.Column("display_name", sa.Text, nullable=False),
        sa.Column("deprecated", sa.Boolean, nullable=False),
        sa.Column("replacement_id", sa.Text),
        sa.Column("is_default", sa.Boolean, nullable=False),
        sa.Column("enabled", sa.Boolean, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_managed_models"),
        sa.ForeignKeyConstraint(
            ["credential_id"], ["credentials.id"], name="fk_managed_models_credential_id"
        ),
    )
    op.create_index("uq_managed_models_model_id", "managed_models", ["model_id"], unique=True)
    default = sa.column("is_default", sa.Boolean)
    op.create_index(
        "uq_managed_models_default",
        "managed_models",
        ["is_default"],
        unique=True,
        sqlite_where=default,
        postgresql_where=default,
    )


def downgrade() -> None:
    """Drop the table, so that any managed credential serves any model again."""
    op.drop_table("managed_models")
