"""The first schema."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

OPEN = sa.text("state = 'held'")
TABLES = ("outbox", "holds", "entries", "ledger_accounts", "receipts", "revisions")


def upgrade() -> None:
    """Create every table."""
    create_revisions()
    create_receipts()
    create_ledger()
    create_outbox()


def downgrade() -> None:
    """Drop every table."""
    for table in TABLES:
        op.drop_table(table)


def text(name: str) -> sa.Column[str]:
    """A text that is always there."""
    return sa.Column(name, sa.Text, nullable=False)


def number(name: str) -> sa.Column[int]:
    """A 64-bit number that is always there."""
    return sa.Column(name, sa.BigInteger, nullable=False)


def flag(name: str) -> sa.Column[int]:
    """0 or 1."""
    return sa.Column(name, sa.SmallInteger, nullable=False)


def create_revisions() -> None:
    """The counters that tell other processes of a change."""
    op.create_table(
        "revisions",
        text("topic"),
        number("value"),
        sa.PrimaryKeyConstraint("topic", name="pk_revisions"),
    )


def create_receipts() -> None:
    """What every call used."""
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
    """Accounts, their entries, and the holds of open calls."""
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
    forbid_changes("entries")
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


def forbid_changes(table: str) -> None:
    """The database itself refuses to change what is written down."""
    if op.get_bind().dialect.name != "sqlite":
        return
    for verb in ("UPDATE", "DELETE"):
        op.execute(
            f"CREATE TRIGGER {table}_no_{verb.lower()} BEFORE {verb} ON {table} "
            f"BEGIN SELECT RAISE(ABORT, '{table} are append-only'); END"
        )


def create_outbox() -> None:
    """What is to be told to the world."""
    op.create_table(
        "outbox",
        text("id"),
        number("created_at"),
        text("topic"),
        text("key"),
        sa.Column("payload", sa.LargeBinary, nullable=False),
        sa.PrimaryKeyConstraint("id", name="pk_outbox"),
    )
