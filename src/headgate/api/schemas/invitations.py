"""Invitations as the platform API reads and writes them."""

from __future__ import annotations

import datetime

import msgspec

from headgate.accounts.model import (
    Invitation,
)
from headgate.api.schemas.fields import Name, to_datetime
from headgate.api.schemas.members import AssignableRole
from headgate.api.schemas.session import Email, Password, Token


class InvitationCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whom to invite, and as what."""

    email: Email
    role: AssignableRole = AssignableRole.ADMIN


class InvitationAccept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token of the link. Who is new gives a name and a password (12 characters or more), who
    is known their password, who is signed in nothing more. `email` only where the invitation has
    none: that of an organization's first owner."""

    token: Token
    name: Name | None = None
    password: Password | None = None
    email: Email | None = None

    def __repr__(self) -> str:
        return "InvitationAccept()"


class InvitationResponse(msgspec.Struct, kw_only=True):
    """An open invitation. `email` is null for that of an organization's first owner whose address
    was not named: whoever holds it gives one."""

    id: str
    email: str | None
    role: str
    invited_by: str
    created_at: datetime.datetime
    expires_at: datetime.datetime


class IssuedInvitationResponse(InvitationResponse, kw_only=True):
    """A new invitation: hand the token, or the link with it, to the person. It is shown once."""

    token: str
    link: str | None


class InvitationPage(msgspec.Struct):
    """The oldest first."""

    invitations: list[InvitationResponse]
    total: int
    limit: int
    offset: int


def to_invitation_response(invitation: Invitation) -> InvitationResponse:
    """An invitation as the API writes it."""
    return InvitationResponse(
        id=invitation.id,
        email=invitation.email,
        role=invitation.role.value,
        invited_by=invitation.invited_by,
        created_at=to_datetime(invitation.created_at),
        expires_at=to_datetime(invitation.expires_at),
    )
