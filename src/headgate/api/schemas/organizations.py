"""Organizations as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.accounts.model import Membership, Organization
from headgate.api.schemas.fields import Name, to_datetime, to_optional_datetime
from headgate.api.schemas.session import Email

Slug = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class OrganizationUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What can be said of an organization."""

    name: Name


class OrganizationCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new organization. `owner_email` invites its owner; without it, a person who makes the
    organization is the owner. `slug` is accepted for clients of ModuleX and not kept: an
    organization is addressed by its id."""

    name: Name
    owner_email: Email | None = None
    slug: Slug | None = None


class OrganizationResponse(msgspec.Struct, kw_only=True):
    """An organization. `suspended_at`: since when nothing of it is let through."""

    id: str
    name: str
    created_at: datetime.datetime
    suspended_at: datetime.datetime | None
    version: int


class CreatedOrganizationResponse(OrganizationResponse, kw_only=True):
    """A new organization; the token of its owner's invitation is shown this once."""

    owner_invitation_token: str | None


class OwnOrganizationResponse(msgspec.Struct):
    """An organization of mine, and what I am in it."""

    id: str
    name: str
    role: str
    is_suspended: bool


class OwnOrganizationPage(msgspec.Struct):
    """The oldest first."""

    organizations: list[OwnOrganizationResponse]
    total: int
    limit: int
    offset: int


class OrganizationPage(msgspec.Struct):
    """The oldest first."""

    organizations: list[OrganizationResponse]
    total: int
    limit: int
    offset: int


def to_organization_response(found: Organization) -> OrganizationResponse:
    """An organization as the API writes it."""
    return OrganizationResponse(
        id=found.id,
        name=found.name,
        created_at=to_datetime(found.created_at),
        suspended_at=to_optional_datetime(found.suspended_at),
        version=found.version,
    )


def to_own_organization_response(membership: Membership) -> OwnOrganizationResponse:
    """A membership of mine as the API writes it."""
    return OwnOrganizationResponse(
        membership.organization_id,
        membership.organization_name,
        membership.role.value,
        membership.suspended_at is not None,
    )
