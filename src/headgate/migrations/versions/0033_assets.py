"""Assets, handles, and objects that are to be deleted."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0033"
down_revision = "0032"


def upgrade() -> None:
    """Add three empty tables. Older versions serve no assets, and delete no objects."""
    op.create_table(
        "assets",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("slug", sa.Text, nullable=False),
        sa.Column("alt", sa.Text),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("sha256", sa.Text, nullable=False),
        sa.Column("object_key", sa.Text, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.Column("created_by", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_assets"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_assets_organization_id"
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_assets_project_id"),
    )
    op.create_index("uq_assets_slug", "assets", ["project_id", "slug"], unique=True)
    op.create_index("ix_assets_organization_id", "assets", ["organization_id", "created_at", "id"])
    op.create_index("ix_assets_expires_at", "assets", ["expires_at"])
    op.create_table(
        "handles",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("media_type", sa.Text, nullable=False),
        sa.Column("bytes", sa.BigInteger, nullable=False),
        sa.Column("object_key", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_handles"),
    )
    op.create_index("ix_handles_project_id", "handles", ["project_id", "expires_at"])
    op.create_index("ix_handles_expires_at", "handles", ["expires_at"])
    op.create_table(
        "object_removals",
        sa.Column("object_key", sa.Text, nullable=False),
        sa.Column("due_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("object_key", name="pk_object_removals"),
    )
    op.create_index("ix_object_removals_due_at", "object_removals", ["due_at"])


def downgrade() -> None:
    """Drop the tables. The objects stay where they are kept, and nothing names them."""
    op.drop_table("object_removals")
    op.drop_table("handles")
    op.drop_table("assets")
