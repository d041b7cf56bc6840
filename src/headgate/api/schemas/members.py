"""Members of an organization as the platform API reads and writes them."""

from __future__ import annotations

import datetime
import enum

import msgspec

from headgate.accounts.model import Member
from headgate.api.schemas.fields import build_response
from headgate.api.schemas.pages import Page


class AssignableRole(enum.Enum):
    """A role of a member. An admin manages everything except owners."""

    OWNER = "owner"
    ADMIN = "admin"


class MemberUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The new role of a member."""

    role: AssignableRole


class MemberResponse(msgspec.Struct):
    """A member of the organization. `disabled_at` is when the operator disabled the person."""

    id: str
    email: str
    name: str
    role: str
    created_at: datetime.datetime
    disabled_at: datetime.datetime | None
    version: int


class MemberPage(Page):
    """A page of members, oldest membership first."""

    members: list[MemberResponse]


def to_member_response(member: Member) -> MemberResponse:
    return build_response(MemberResponse, member, id=member.person_id)
