"""Fields of credentials, secrets and connections for the platform API."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0006"
down_revision = "0005"

EMPTY_LIST = sa.text("'[]'")
LIVE = sa.column("deleted_at").is_(None)
COLUMNS = (
    *("description", "allowed_models", "capacity", "secret_header", "source"),
    *("created_by", "created_by_email", "version"),
)


def upgrade() -> None:
    """Allow equal names; identify what a start created by its `source` instead."""
    op.drop_index("uq_credentials_name", "credentials")
    for column in (
        sa.Column("description", sa.Text),
        sa.Column("allowed_models", sa.JSON, nullable=False, server_default=EMPTY_LIST),
        sa.Column("capacity", sa.JSON, nullable=False, server_default=EMPTY_LIST),
        sa.Column("secret_header", sa.Text),
        sa.Column("source", sa.Text, nullable=False, server_default=sa.text("''")),
        sa.Column("created_by", sa.Text),
        sa.Column("created_by_email", sa.Text),
        sa.Column("version", sa.Integer, nullable=False, server_default=sa.text("1")),
    ):
        op.add_column("credentials", column)
    op.execute(
        "UPDATE credentials SET source = name "
        "WHERE name IN ('environment', 'simulator') AND organization_id IS NOT NULL"
    )
    create_secrets()
    op.create_table(
        "discovered_capacity",
        sa.Column("credential_id", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("requests", sa.BigInteger),
        sa.Column("tokens", sa.BigInteger),
        sa.Column("observed_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("credential_id", "model", name="pk_discovered_capacity"),
    )


def downgrade() -> None:
    """Drop them. Credentials with equal names are renamed by their ids, except for the newest."""
    op.drop_table("discovered_capacity")
    op.drop_table("secrets")
    for column in COLUMNS:
        op.drop_column("credentials", column)
    op.execute(
        "UPDATE credentials SET name = name || ' ' || id WHERE EXISTS (SELECT 1 FROM credentials "
        "AS other WHERE other.deleted_at IS NULL AND other.name = credentials.name "
        "AND other.integration = credentials.integration AND other.id > credentials.id "
        "AND coalesce(other.organization_id, '') = coalesce(credentials.organization_id, ''))"
    )
    op.create_index(
        "uq_credentials_name",
        "credentials",
        ["organization_id", "integration", "name"],
        unique=True,
        sqlite_where=LIVE,
        postgresql_where=LIVE,
    )


def create_secrets() -> None:
    op.create_table(
        "secrets",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("project_id", sa.Text),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("seal_number", sa.BigInteger, nullable=False),
        sa.Column("hint", sa.Text, nullable=False),
        sa.Column("service_type", sa.Text),
        sa.Column("description", sa.Text),
        sa.Column("created_by", sa.Text),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_secrets"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_secrets_organization_id"
        ),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_secrets_project_id"),
        sa.ForeignKeyConstraint(["key_id"], ["organization_keys.id"], name="fk_secrets_key_id"),
    )
    project = sa.column("project_id", sa.Text)
    for name, columns, where in (
        ("uq_secrets_organization_id", ["organization_id", "name"], project.is_(None)),
        (
            "uq_secrets_project_id",
            ["organization_id", "project_id", "name"],
            project.is_not(None),
        ),
    ):
        op.create_index(
            name, "secrets", columns, unique=True, sqlite_where=where, postgresql_where=where
        )
    op.create_index("ix_secrets_project_id", "secrets", ["project_id"])
    op.create_index("ix_secrets_key_id", "secrets", ["key_id"])
