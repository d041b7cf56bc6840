"""Members of an organization as the platform API reads and writes them."""

from __future__ import annotations

import datetime
import enum

import msgspec

from headgate.accounts.model import Member
from headgate.api.schemas.fields import to_datetime, to_optional_datetime


class AssignableRole(enum.Enum):
    """A role that can be given: an admin manages all but owners."""

    OWNER = "owner"
    ADMIN = "admin"


class MemberUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be changed of a membership."""

    role: AssignableRole


class MemberResponse(msgspec.Struct):
    """A member. `disabled_at`: since when the operator lets them in nowhere."""

    id: str
    email: str
    name: str
    role: str
    created_at: datetime.datetime
    disabled_at: datetime.datetime | None
    version: int


class MemberPage(msgspec.Struct):
    """The oldest first."""

    members: list[MemberResponse]
    total: int
    limit: int
    offset: int


def to_member_response(member: Member) -> MemberResponse:
    """A member as the API writes them."""
    return MemberResponse(
        id=member.person_id,
        email=member.email,
        name=member.name,
        role=member.role.value,
        created_at=to_datetime(member.created_at),
        disabled_at=to_optional_datetime(member.disabled_at),
        version=member.version,
    )
