"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

from headgate.kit.db.triggers import drop_rules, forbid_changes_of

revision = "0001"
down_revision = None

OPEN = sa.text("state = 'held'")
TABLES = (
    *("credentials", "organization_keys", "master_keys", "keys", "projects", "organizations"),
    "outbox",
    "holds",
    "entries",
    "ledger_accounts",
    "receipts",
    "revisions",
)


def upgrade() -> None:
    """Create every table."""
    create_revisions()
    create_accounts()
    create_keys()
    create_vault()
    create_receipts()
    create_ledger()
    create_outbox()


def downgrade() -> None:
    """Drop every table."""
    for table in TABLES:
        op.drop_table(table)
    for statement in drop_rules(op.get_bind().dialect.name):
        op.execute(statement)


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def number(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.BigInteger, nullable=False)


def flag(name: str) -> sa.Column[int]:
    return sa.Column(name, sa.SmallInteger, nullable=False)


def create_revisions() -> None:
    op.create_table(
        "revisions",
        text("topic"),
        number("value"),
        sa.PrimaryKeyConstraint("topic", name="pk_revisions"),
    )


def time(name: str, *, always: bool = True) -> sa.Column[float]:
    """Return a column of Unix seconds."""
    return sa.Column(name, sa.Double, nullable=not always)


def organization(table: str, *, always: bool) -> tuple[sa.Column[str], sa.ForeignKeyConstraint]:
    """Return the owner's column; null for rows of the platform."""
    name = f"fk_{table}_organization_id"
    return (
        sa.Column("organization_id", sa.Text, nullable=not always),
        sa.ForeignKeyConstraint(["organization_id"], ["organizations.id"], name=name),
    )


def create_accounts() -> None:
    op.create_table(
        "organizations",
        text("id"),
        text("name"),
        time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_organizations"),
    )
    op.create_table(
        "projects",
        text("id"),
        *organization("projects", always=True),
        text("name"),
        time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_projects"),
    )
    op.create_index("ix_projects_organization_id", "projects", ["organization_id"])


def create_keys() -> None:
    op.create_table(
        "keys",
        text("id"),
        sa.Column("digest", sa.LargeBinary(32), nullable=False),
        text("kind"),
        text("name"),
        sa.UniqueConstraint("digest", name="uq_keys_digest"),
        *organization("keys", always=True),
        text("project_id"),
        time("created_at"),
        time("expires_at", always=False),
        time("disabled_at", always=False),
        time("revoked_at", always=False),
        sa.Column("models", sa.JSON, nullable=False),
        sa.Column("endpoints", sa.JSON, nullable=False),
        sa.Column("requests_per_minute", sa.Integer, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_keys"),
        sa.ForeignKeyConstraint(["project_id"], ["projects.id"], name="fk_keys_project_id"),
    )
    op.create_index("ix_keys_organization_id", "keys", ["organization_id"])


def create_vault() -> None:
    op.create_table(
        "master_keys",
        text("id"),
        sa.Column("check_value", sa.LargeBinary, nullable=False),
        time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_master_keys"),
    )
    op.create_table(
        "organization_keys",
        text("id"),
        *organization("organization_keys", always=False),
        text("master_key_id"),
        sa.Column("wrapped", sa.LargeBinary, nullable=False),
        time("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_organization_keys"),
        sa.ForeignKeyConstraint(
            ["master_key_id"], ["master_keys.id"], name="fk_organization_keys_master_key_id"
        ),
    )
    op.create_index(
        "ix_organization_keys_organization_id", "organization_keys", ["organization_id"]
    )
    create_credentials()


def create_credentials() -> None:
    op.create_table(
        "credentials",
        text("id"),
        *organization("credentials", always=False),
        text("integration"),
        text("name"),
        text("auth_type"),
        text("base_url"),
        sa.Column("provider_organization", sa.Text),
        sa.Column("metadata", sa.JSON, nullable=False),
        text("hint"),
        sa.Column("sealed", sa.LargeBinary),
        text("key_id"),
        sa.Column("is_default", sa.Boolean, nullable=False),
        time("expires_at", always=False),
        time("created_at"),
        time("updated_at"),
        time("last_used_at", always=False),
        time("deleted_at", always=False),
        sa.PrimaryKeyConstraint("id", name="pk_credentials"),
        sa.ForeignKeyConstraint(["key_id"], ["organization_keys.id"], name="fk_credentials_key_id"),
    )
    live = sa.column("deleted_at").is_(None)
    default = sa.and_(sa.column("is_default", sa.Boolean), live)
    op.create_index("ix_credentials_organization_id", "credentials", ["organization_id"])
    for name, columns, where in (
        ("uq_credentials_default", ["organization_id", "integration"], default),
        ("uq_credentials_name", ["organization_id", "integration", "name"], live),
    ):
        op.create_index(
            name, "credentials", columns, unique=True, sqlite_where=where, postgresql_where=where
        )


def create_receipts() -> None:
    op.create_table(
        "receipts",
        text("request_id"),
        number("created_at"),
        text("organization_id"),
        text("project_id"),
        text("key_id"),
        text("credential_id"),
        flag("managed"),
        text("endpoint"),
        text("method"),
        text("provider"),
        text("model_requested"),
        text("model_served"),
        text("answer_id"),
        text("upstream_request_id"),
        text("correlation_id"),
        number("status"),
        text("outcome"),
        text("error_code"),
        flag("streamed"),
        text("usage"),
        flag("estimated"),
        text("service_tier"),
        text("pricing"),
        text("unpriced_reason"),
        text("price_id"),
        number("cost_nano"),
        number("attempts"),
        number("first_byte_microseconds"),
        number("upstream_microseconds"),
        number("total_microseconds"),
        number("overhead_microseconds"),
        sa.PrimaryKeyConstraint("request_id", name="pk_receipts"),
    )
    op.create_index(
        "ix_receipts_organization_id_created_at", "receipts", ["organization_id", "created_at"]
    )


def create_ledger() -> None:
    op.create_table(
        "ledger_accounts",
        text("id"),
        text("organization_id"),
        text("kind"),
        number("balance_nano"),
        sa.CheckConstraint(
            "balance_nano >= 0 OR kind NOT IN ('wallet', 'held')",
            name="ck_ledger_accounts_balance",
        ),
        sa.PrimaryKeyConstraint("id", name="pk_ledger_accounts"),
    )
    op.create_table(
        "entries",
        sa.Column("id", sa.BigInteger().with_variant(sa.Integer, "sqlite"), nullable=False),
        text("transaction_id"),
        text("account_id"),
        number("amount_nano"),
        text("request_id"),
        number("created_at"),
        sa.PrimaryKeyConstraint("id", name="pk_entries"),
    )
    op.create_index(
        "uq_entries_transaction_id", "entries", ["transaction_id", "account_id"], unique=True
    )
    for statement in forbid_changes_of("entries", op.get_bind().dialect.name):
        op.execute(statement)
    op.create_table(
        "holds",
        text("request_id"),
        text("organization_id"),
        number("amount_nano"),
        text("state"),
        number("lease_until"),
        number("created_at"),
        text("context"),
        sa.CheckConstraint("amount_nano >= 0", name="ck_holds_amount"),
        sa.CheckConstraint("state IN ('held', 'settled', 'released')", name="ck_holds_state"),
        sa.PrimaryKeyConstraint("request_id", name="pk_holds"),
    )
    op.create_index(
        "ix_holds_lease_until", "holds", ["lease_until"], sqlite_where=OPEN, postgresql_where=OPEN
    )


def create_outbox() -> None:
    op.create_table(
        "outbox",
        text("id"),
        number("created_at"),
        text("topic"),
        text("key"),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
