"""Invitations as the platform API reads and writes them."""

from __future__ import annotations

import datetime

import msgspec

from headgate.accounts.model import (
    Invitation,
)
from headgate.api.schemas.fields import Name, build_response
from headgate.api.schemas.members import AssignableRole
from headgate.api.schemas.pages import Page
from headgate.api.schemas.session import Email, Password, Token


class InvitationCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The person to invite, and their role."""

    email: Email
    role: AssignableRole = AssignableRole.ADMIN


class InvitationAccept(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The token of the invitation. A new person gives `name` and `password` (12 characters or
    more), a person with an account gives `password`, and a signed-in person gives neither.
    `email` is required only if the invitation has none."""

    token: Token
    name: Name | None = None
    password: Password | None = None
    email: Email | None = None

    def __repr__(self) -> str:
        return "InvitationAccept()"


class InvitationResponse(msgspec.Struct, kw_only=True):
    """An open invitation. `email` is null for the first owner of an organization who was not named;
    whoever accepts the invitation gives an address."""

    id: str
    email: str | None
    role: str
    invited_by: str
    created_at: datetime.datetime
    expires_at: datetime.datetime


class IssuedInvitationResponse(InvitationResponse, kw_only=True):
    """A new invitation with its token and, if the server knows its public URL, a link. Both are
    shown only here."""

    token: str
    link: str | None


class InvitationPage(Page):
    """A page of open invitations, oldest first."""

    invitations: list[InvitationResponse]


def to_invitation_response(invitation: Invitation) -> InvitationResponse:
    return build_response(InvitationResponse, invitation)
