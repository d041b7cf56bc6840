"""Sign-in, sessions and the signed-in person as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.accounts.model import (
    Person,
)
from headgate.api.schemas.pages import Page

Email = Annotated[str, Meta(min_length=3, max_length=254, description="Case does not matter.")]


Password = Annotated[
    str, Meta(min_length=1, max_length=1024, description="At most 1024 bytes in UTF-8.")
]


Token = Annotated[str, Meta(min_length=1, max_length=128)]


class PersonResponse(msgspec.Struct):
    """A person. `is_operator` tells whether they are an operator of this server."""

    id: str
    email: str
    name: str
    is_operator: bool


class MembershipResponse(msgspec.Struct):
    """A person's role in an organization. The retired role `member` grants no access."""

    id: str
    name: str
    role: str
    is_suspended: bool


class CurrentSessionResponse(msgspec.Struct):
    """The signed-in person. Send `csrf_token` as `X-CSRF-Token` with every change. With a bearer
    token of an external issuer, `csrf_token`, `session_id` and `expires_at` are null."""

    session_id: str | None
    person: PersonResponse
    organizations: list[MembershipResponse]
    csrf_token: str | None
    expires_at: datetime.datetime | None


def to_person_response(person: Person) -> PersonResponse:
    return PersonResponse(person.id, person.email, person.name, person.is_operator)


Returned = Annotated[str, Meta(max_length=4096)]


class SignInRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An e-mail address and its password."""

    email: Email
    password: Password

    def __repr__(self) -> str:
        return "SignIn()"


class PasswordChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The current password, and the new one of 12 characters or more."""

    old_password: Password
    new_password: Password

    def __repr__(self) -> str:
        return "PasswordChange()"


class SessionResponse(msgspec.Struct):
    """A session. `current` marks the one that this request belongs to."""

    id: str
    current: bool
    created_at: datetime.datetime
    last_seen_at: datetime.datetime
    expires_at: datetime.datetime
    address: str
    user_agent: str


class SessionPage(Page):
    """A page of sessions, most recently used first."""

    sessions: list[SessionResponse]


class OidcReturn(msgspec.Struct, frozen=True):
    """The parameters that the issuer sends the browser back with. Unknown parameters are ignored,
    because issuers add their own."""

    code: Returned | None = None
    state: Returned = ""
    iss: Returned | None = None
    error: Returned | None = None
