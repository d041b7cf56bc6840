"""Resources: named targets of calls."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0029"
down_revision = "0028"


def upgrade() -> None:
    """Add an empty table. Older versions take the name of a resource for that of a model."""
    op.create_table(
        "resources",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("description", sa.Text),
        sa.Column("config", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_resources"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_resources_organization_id"
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_resources_project_id"),
    )
    op.create_index("uq_resources_name", "resources", ["project_id", "name"], unique=True)
    op.create_index("ix_resources_organization_id", "resources", ["organization_id"])


def downgrade() -> None:
    """Drop the table with all resources."""
    op.drop_table("resources")
