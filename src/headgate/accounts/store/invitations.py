"""The SQL of invitations."""

from __future__ import annotations

from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.model import Invitation
from headgate.kit.db.schema import METADATA, count_rows

INVITATIONS = sa.Table(
    "invitations",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column(
        "organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False, index=True
    ),
    sa.Column("email", sa.Text, index=True),
    sa.Column("role", sa.Text, nullable=False),
    sa.Column("is_operator", sa.Boolean, nullable=False),
    sa.Column("invited_by", sa.Text, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double, nullable=False),
    sa.Column("accepted_at", sa.Double),
)

INVITATION_COLUMNS = [INVITATIONS.c[name] for name in Invitation.__struct_fields__]


def insert_invitation(connection: sa.Connection, invitation: Invitation, *, digest: bytes) -> None:
    values = msgspec.structs.asdict(invitation) | {"role": invitation.role.value}
    connection.execute(sa.insert(INVITATIONS).values(**values, digest=digest))


def select_open_invitation(
    connection: sa.Connection, digest: bytes, *, now: float
) -> Invitation | None:
    statement = sa.select(*INVITATION_COLUMNS).where(INVITATIONS.c.digest == digest, *_open(now))
    row = connection.execute(statement).one_or_none()
    return None if row is None else _invitation(row)


def select_open_invitations_for(
    connection: sa.Connection, email: str, *, now: float
) -> list[Invitation]:
    statement = (
        sa.select(*INVITATION_COLUMNS)
        .where(INVITATIONS.c.email == email, *_open(now))
        .order_by(INVITATIONS.c.created_at, INVITATIONS.c.id)
    )
    return [_invitation(row) for row in connection.execute(statement)]


def has_open_operator_invitation(connection: sa.Connection, *, now: float) -> bool:
    statement = sa.select(INVITATIONS.c.id).where(INVITATIONS.c.is_operator, *_open(now)).limit(1)
    return connection.execute(statement).first() is not None


def select_invitations(
    connection: sa.Connection, organization_id: str, *, now: float, limit: int, offset: int
) -> list[Invitation]:
    statement = (
        sa.select(*INVITATION_COLUMNS)
        .where(INVITATIONS.c.organization_id == organization_id, *_open(now))
        .order_by(INVITATIONS.c.created_at, INVITATIONS.c.id)
        .limit(limit)
        .offset(offset)
    )
    return [_invitation(row) for row in connection.execute(statement)]


def count_invitations(connection: sa.Connection, organization_id: str, *, now: float) -> int:
    own = INVITATIONS.c.organization_id == organization_id
    return count_rows(connection, INVITATIONS, own, *_open(now))


def mark_accepted(connection: sa.Connection, invitation_id: str, *, at: float) -> bool:
    """Mark the invitation accepted. Return False where somebody else was first."""
    own = (INVITATIONS.c.id == invitation_id, INVITATIONS.c.accepted_at.is_(None))
    statement = sa.update(INVITATIONS).where(*own).values(accepted_at=at)
    return connection.execute(statement).rowcount > 0


def delete_invitation(connection: sa.Connection, organization_id: str, invitation_id: str) -> bool:
    """Delete an open invitation. Return whether there was one."""
    statement = sa.delete(INVITATIONS).where(
        INVITATIONS.c.organization_id == organization_id,
        INVITATIONS.c.id == invitation_id,
        INVITATIONS.c.accepted_at.is_(None),
    )
    return connection.execute(statement).rowcount > 0


def delete_invitations_by(connection: sa.Connection, organization_id: str, inviter: str) -> int:
    """Delete the open invitations that `inviter` sent. Return how many."""
    statement = sa.delete(INVITATIONS).where(
        INVITATIONS.c.organization_id == organization_id,
        INVITATIONS.c.invited_by == inviter,
        INVITATIONS.c.accepted_at.is_(None),
    )
    return connection.execute(statement).rowcount


def delete_operator_invitations(connection: sa.Connection) -> None:
    connection.execute(
        sa.delete(INVITATIONS).where(INVITATIONS.c.is_operator, INVITATIONS.c.accepted_at.is_(None))
    )


def _open(now: float) -> list[sa.ColumnElement[bool]]:
    return [INVITATIONS.c.accepted_at.is_(None), INVITATIONS.c.expires_at > now]


def _invitation(row: sa.Row[Any]) -> Invitation:
    return msgspec.convert(dict(zip(Invitation.__struct_fields__, row, strict=True)), Invitation)
