"""People of the installation as the platform API writes them."""

from __future__ import annotations

import datetime

import msgspec

from headgate.accounts.model import Person
from headgate.api.schemas.fields import build_response
from headgate.api.schemas.pages import Page


class PlatformPersonResponse(msgspec.Struct):
    """A person with an account on this server. `disabled_at` is when the person was disabled."""

    id: str
    email: str
    name: str
    is_operator: bool
    created_at: datetime.datetime
    email_verified_at: datetime.datetime | None
    disabled_at: datetime.datetime | None
    version: int


class PlatformPersonPage(Page):
    """A page of people, oldest account first."""

    people: list[PlatformPersonResponse]


def to_platform_person_response(person: Person) -> PlatformPersonResponse:
    return build_response(PlatformPersonResponse, person)
