"""Organizations as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.accounts.model import Membership, Organization
from headgate.api.schemas.fields import Name, build_response
from headgate.api.schemas.pages import Page
from headgate.api.schemas.session import Email

Slug = Annotated[str, Meta(min_length=1, max_length=64, pattern=r"^[a-z0-9]+(-[a-z0-9]+)*$")]


class OrganizationUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What changes of the organization. What is missing stays as it is."""

    name: Name | UnsetType = UNSET
    reporting_zone: Annotated[str, Meta(min_length=1, max_length=100)] | UnsetType = UNSET


class OrganizationCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A new organization. `owner_email` is the address of the owner to invite; without it, the
    person who creates the organization is its owner. `slug` is accepted for compatibility and
    not stored."""

    name: Name
    owner_email: Email | None = None
    slug: Slug | None = None


class OrganizationResponse(msgspec.Struct, kw_only=True):
    """An organization. `suspended_at` is when it was suspended; its people and keys have no access
    since then."""

    id: str
    name: str
    created_at: datetime.datetime
    suspended_at: datetime.datetime | None
    reporting_zone: str
    version: int


class CreatedOrganizationResponse(OrganizationResponse, kw_only=True):
    """A new organization. `owner_invitation_token` is shown only here."""

    owner_invitation_token: str | None


class OwnOrganizationResponse(msgspec.Struct):
    """An organization of the signed-in person, and their role in it."""

    id: str
    name: str
    role: str
    is_suspended: bool


class OwnOrganizationPage(Page):
    """A page of the signed-in person's organizations, oldest first."""

    organizations: list[OwnOrganizationResponse]


class OrganizationPage(Page):
    """A page of organizations, oldest first."""

    organizations: list[OrganizationResponse]


def to_organization_response(found: Organization) -> OrganizationResponse:
    return build_response(OrganizationResponse, found)


def to_own_organization_response(membership: Membership) -> OwnOrganizationResponse:
    return OwnOrganizationResponse(
        membership.organization_id,
        membership.organization_name,
        membership.role.value,
        membership.suspended_at is not None,
    )
