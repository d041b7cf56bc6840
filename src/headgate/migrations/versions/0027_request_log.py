"""The request log of projects, sealed bodies of requests, and shared counts of attempts."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0027"
down_revision = "0026"

COLUMNS = (
    *("created_at", "organization_id", "project_id", "key_id", "endpoint", "method", "path"),
    *("status", "outcome", "error_code", "failure_reason", "provider", "model", "model_served"),
    *("credential_id", "managed", "resource_id", "resource_name", "streamed", "attempts"),
    *("events", "usage", "cost_nano", "pricing", "total_microseconds", "gate_microseconds"),
    *("routing_microseconds", "first_byte_microseconds", "upstream_microseconds"),
    *("overhead_microseconds", "request_bytes", "response_bytes", "client_address"),
    *("user_agent", "correlation_id", "upstream_request_id", "response_id", "cache_status"),
    *("metadata", "payload"),
)
NUMBERS = frozenset(
    (
        *("created_at", "status", "managed", "streamed", "attempts", "cost_nano"),
        *("total_microseconds", "gate_microseconds", "routing_microseconds"),
        *("first_byte_microseconds", "upstream_microseconds", "overhead_microseconds"),
        *("request_bytes", "response_bytes", "payload"),
    )
)
ATTEMPT_KEY = (
    *("process_id", "minute", "project_id", "resource_id", "credential_id", "credential_name"),
    *("model", "status", "failed"),
)


def upgrade() -> None:
    """Add four tables. Older versions do not know them, and keep no requests."""
    op.create_table(
        "request_log",
        sa.Column("id", sa.Text, nullable=False),
        *(
            sa.Column(name, sa.BigInteger if name in NUMBERS else sa.Text, nullable=False)
            for name in COLUMNS
        ),
        sa.PrimaryKeyConstraint("id", name="pk_request_log"),
    )
    for owner in ("organization_id", "project_id"):
        op.create_index(f"ix_request_log_{owner}_created_at", "request_log", [owner, "created_at"])
    op.create_table(
        "request_log_settings",
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("mode", sa.Text, nullable=False),
        sa.Column("retention_days", sa.BigInteger, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("updated_at", sa.Double, nullable=False),
        sa.PrimaryKeyConstraint("project_id", name="pk_request_log_settings"),
        sa.ForeignKeyConstraint(
            ["project_id"], ["projects.id"], name="fk_request_log_settings_project_id"
        ),
        sa.ForeignKeyConstraint(
            ["organization_id"],
            ["organizations.id"],
            name="fk_request_log_settings_organization_id",
        ),
    )
    op.create_table(
        "request_payloads",
        sa.Column("id", sa.Text, nullable=False),
        sa.Column("organization_id", sa.Text, nullable=False),
        sa.Column("name", sa.Text, nullable=False),
        sa.Column("sealed", sa.LargeBinary),
        sa.Column("key_id", sa.Text, nullable=False),
        sa.Column("seal_number", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_request_payloads"),
        sa.ForeignKeyConstraint(
            ["organization_id"], ["organizations.id"], name="fk_request_payloads_organization_id"
        ),
        sa.ForeignKeyConstraint(
            ["key_id"], ["organization_keys.id"], name="fk_request_payloads_key_id"
        ),
    )
    op.create_index("ix_request_payloads_key_id", "request_payloads", ["key_id"])
    op.create_table(
        "attempt_counts",
        sa.Column("process_id", sa.Text, nullable=False),
        sa.Column("minute", sa.BigInteger, nullable=False),
        sa.Column("project_id", sa.Text, nullable=False),
        sa.Column("resource_id", sa.Text, nullable=False),
        sa.Column("credential_id", sa.Text, nullable=False),
        sa.Column("credential_name", sa.Text, nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("status", sa.BigInteger, nullable=False),
        sa.Column("failed", sa.SmallInteger, nullable=False),
        sa.Column("attempts", sa.BigInteger, nullable=False),
        sa.PrimaryKeyConstraint(*ATTEMPT_KEY, name="pk_attempt_counts"),
    )


def downgrade() -> None:
    for name in ("attempt_counts", "request_payloads", "request_log_settings", "request_log"):
        op.drop_table(name)
