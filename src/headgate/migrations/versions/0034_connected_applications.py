"""Connected applications: their grants, codes and tokens."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0034"
down_revision = "0033"


def upgrade() -> None:
    """Add empty tables. Older versions do not look at them."""
    _create_applications()
    _create_grants()
    _create_tokens()


def _create_applications() -> None:
    op.create_table(
        "connected_applications",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("person_id", sa.Text, nullable=False),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("client_id", sa.Text, nullable=False),
        sa.Column("client_name", sa.Text, nullable=False),
        sa.Column("redirect_host", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("revoked_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_connected_applications"),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name="fk_connected_applications_organization_id",
        ),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_connected_applications_project_id"
        ),
        sa.ForeignKeyConstraint(
            ["person_id"], ["people.id"], name="fk_connected_applications_person_id"
        ),
        sa.UniqueConstraint("key_id", name="uq_connected_applications_key_id"),
        sa.ForeignKeyConstraint(["key_id"], ["keys.id"], name="fk_connected_applications_key_id"),
    )
    op.create_index(
        "ix_connected_applications_listing",
        "connected_applications",
        ["organization_id", "created_at", "id"],
    )
    op.create_index("ix_connected_applications_person_id", "connected_applications", ["person_id"])


def _create_grants() -> None:
    op.create_table(
        "oauth_grants",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("application_id", sa.Text, nullable=False),
        sa.Column("scopes", sa.JSON, nullable=False),
        sa.Column("resource", sa.Text, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("ended_at", sa.Double),
        sa.PrimaryKeyConstraint("id", name="pk_oauth_grants"),
        sa.ForeignKeyConstraint(
            ["application_id"],
            ["connected_applications.id"],
            name="fk_oauth_grants_application_id",
        ),
    )
    op.create_index("ix_oauth_grants_application_id", "oauth_grants", ["application_id"])


def _create_tokens() -> None:
    for table, columns in (
        (
            "oauth_codes",
            [
                sa.Column("redirect_uri", sa.Text, nullable=False),
                sa.Column("challenge", sa.Text, nullable=False),
                sa.Column("used_at", sa.Double),
            ],
        ),
        ("oauth_access_tokens", [sa.Column("scopes", sa.JSON, nullable=False)]),
        (
            "oauth_refresh_tokens",
            [sa.Column("used_at", sa.Double), sa.Column("salt", sa.LargeBinary(32))],
        ),
    ):
        op.create_table(
            table,
            sa.Column("digest", sa.LargeBinary(32), nullable=False),
            sa.Column("grant_id", sa.Text, nullable=False),
            sa.Column("expires_at", sa.Double, nullable=False),
            *columns,
            sa.PrimaryKeyConstraint("digest", name=f"pk_{table}"),
            sa.ForeignKeyConstraint(["grant_id"], ["oauth_grants.id"], name=f"fk_{table}_grant_id"),
        )
        op.create_index(f"ix_{table}_grant_id", table, ["grant_id"])
        op.create_index(f"ix_{table}_expires_at", table, ["expires_at"])


def downgrade() -> None:
    """Drop the tables with all connected applications; their keys stay."""
    for table in (
        *("oauth_refresh_tokens", "oauth_access_tokens", "oauth_codes"),
        *("oauth_grants", "connected_applications"),
    ):
        op.drop_table(table)
