"""People, their roles, sessions and invitations."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"

TABLES = ("invitations", "sessions", "identities", "memberships", "people")


def upgrade() -> None:
    """Add columns that suspend organizations and archive projects, and the tables of people."""
    op.add_column("organizations", sa.Column("suspended_at", sa.Double))
    op.add_column("organizations", version())
    op.add_column("projects", sa.Column("archived_at", sa.Double))
    op.add_column("projects", version())
    create_people()
    create_memberships()
    create_identities()
    create_sessions()
    create_invitations()


def downgrade() -> None:
    """Drop the tables, then the columns."""
    for table in TABLES:
        op.drop_table(table)
    for table, column in (("projects", "archived_at"), ("organizations", "suspended_at")):
        op.drop_column(table, "version")
        op.drop_column(table, column)


def version() -> sa.Column[int]:
    """Return a column that counts the changes of a row."""
    return sa.Column("version", sa.Integer, nullable=False, server_default="1")


def text(name: str) -> sa.Column[str]:
    return sa.Column(name, sa.Text, nullable=False)


def time(name: str, *, always: bool = True) -> sa.Column[float]:
    """Return a column of Unix seconds."""
    return sa.Column(name, sa.Double, nullable=not always)


def digest() -> sa.Column[bytes]:
    """Return the column of a token's SHA-256."""
    return sa.Column("digest", sa.LargeBinary(32), nullable=False)


def key(table: str, column: str, target: str) -> sa.ForeignKeyConstraint:
    return sa.ForeignKeyConstraint([column], [f"{target}.id"], name=f"fk_{table}_{column}")


def create_people() -> None:
    op.create_table(
        "people",
        text("id"),
        text("email"),
        text("name"),
        sa.Column("password_hash", sa.Text),
        sa.Column("is_operator", sa.Boolean, nullable=False),
        time("created_at"),
        time("email_verified_at", always=False),
        time("disabled_at", always=False),
        version(),
        sa.PrimaryKeyConstraint("id", name="pk_people"),
        sa.UniqueConstraint("email", name="uq_people_email"),
    )


def create_memberships() -> None:
    op.create_table(
        "memberships",
        text("organization_id"),
        text("person_id"),
        text("role"),
        time("created_at"),
        version(),
        sa.PrimaryKeyConstraint("organization_id", "person_id", name="pk_memberships"),
        key("memberships", "organization_id", "organizations"),
        key("memberships", "person_id", "people"),
    )
    op.create_index("ix_memberships_person_id", "memberships", ["person_id"])


def create_identities() -> None:
    op.create_table(
        "identities",
        text("issuer"),
        text("subject"),
        text("person_id"),
        time("created_at"),
        sa.PrimaryKeyConstraint("issuer", "subject", name="pk_identities"),
        key("identities", "person_id", "people"),
    )
    op.create_index("uq_identities_person_id", "identities", ["person_id", "issuer"], unique=True)


def create_sessions() -> None:
    op.create_table(
        "sessions",
        text("id"),
        digest(),
        text("person_id"),
        time("created_at"),
        time("last_seen_at"),
        time("expires_at"),
        text("user_agent"),
        text("address"),
        sa.PrimaryKeyConstraint("id", name="pk_sessions"),
        sa.UniqueConstraint("digest", name="uq_sessions_digest"),
        key("sessions", "person_id", "people"),
    )
    op.create_index("ix_sessions_person_id", "sessions", ["person_id"])
    op.create_index("ix_sessions_expires_at", "sessions", ["expires_at"])


def create_invitations() -> None:
    op.create_table(
        "invitations",
        text("id"),
        digest(),
        text("organization_id"),
        sa.Column("email", sa.Text),
        text("role"),
        sa.Column("is_operator", sa.Boolean, nullable=False),
        text("invited_by"),
        time("created_at"),
        time("expires_at"),
        time("accepted_at", always=False),
        sa.PrimaryKeyConstraint("id", name="pk_invitations"),
        sa.UniqueConstraint("digest", name="uq_invitations_digest"),
        key("invitations", "organization_id", "organizations"),
    )
    op.create_index("ix_invitations_organization_id", "invitations", ["organization_id"])
    op.create_index("ix_invitations_email", "invitations", ["email"])
