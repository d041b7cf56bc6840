"""MCP servers of organizations, their secrets, and their pinned tools."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0032"
down_revision = "0031"


def upgrade() -> None:
    """Add empty tables. Older versions do not look at them."""
    _create_servers()
    _create_secrets()
    _create_tools()


def _create_servers() -> None:
    op.create_table(
        "mcp_servers",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("url", sa.Text, nullable=False),
        sa.Column("description", sa.Text, nullable=False),
        sa.Column("authentication", sa.Text, nullable=False),
        sa.Column("header_names", sa.JSON, nullable=False),
        sa.Column("approve_first", sa.Boolean, nullable=False),
        sa.Column("timeout_seconds", sa.Double, nullable=False),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("disabled_at", sa.Double),
        sa.Column("protocol_version", sa.Text, nullable=False),
        sa.Column("server_title", sa.Text, nullable=False),
        sa.Column("server_version", sa.Text, nullable=False),
        sa.Column("discovered_at", sa.Double),
        sa.Column("discovery_error", sa.Text, nullable=False),
        sa.Column("skipped", sa.JSON, nullable=False),
        sa.Column("refresh_at", sa.Double, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.Column("version", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mcp_servers"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_mcp_servers_organization_id"
        ),
    )
    op.create_index("ix_mcp_servers_organization_id", "mcp_servers", ["organization_id"])
    op.create_index("ix_mcp_servers_refresh_at", "mcp_servers", ["refresh_at"])
    op.create_index("uq_mcp_servers_name", "mcp_servers", ["organization_id", "name"], unique=True)


def _create_secrets() -> None:
    op.create_table(
        "mcp_server_secrets",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("server_id", sa.Text, nullable=False),
        sa.Column("person_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("origin", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("seal_number", sa.BigInteger, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mcp_server_secrets"),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name="fk_mcp_server_secrets_organization_id",
        ),
        sa.ForeignKeyConstraint(
            ["server_id"], ["mcp_servers.id"], name="fk_mcp_server_secrets_server_id"
        ),
        sa.ForeignKeyConstraint(
            ["key_id"], ["organization_keys.id"], name="fk_mcp_server_secrets_key_id"
        ),
    )
    op.create_index("ix_mcp_server_secrets_key_id", "mcp_server_secrets", ["key_id"])
    op.create_index(
        "uq_mcp_server_secrets_person",
        "mcp_server_secrets",
        ["server_id", "person_id"],
        unique=True,
    )


def _create_tools() -> None:
    op.create_table(
        "mcp_server_tools",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("server_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("approved", sa.Text),
        sa.Column("offered", sa.Text),
        sa.Column("is_blocked", sa.Boolean, nullable=False),
        sa.Column("approved_by", sa.Text, nullable=False),
        sa.Column("approved_at", sa.Double),
        sa.Column("first_seen_at", sa.Double, nullable=False),
        sa.Column("last_seen_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_mcp_server_tools"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_mcp_server_tools_organization_id"
        ),
        sa.ForeignKeyConstraint(
            ["server_id"], ["mcp_servers.id"], name="fk_mcp_server_tools_server_id"
        ),
    )
    op.create_index(
        "uq_mcp_server_tools_name", "mcp_server_tools", ["server_id", "name"], unique=True
    )


def downgrade() -> None:
    """Drop the tables with all servers."""
    for table in ("mcp_server_tools", "mcp_server_secrets", "mcp_servers"):
        op.drop_table(table)
