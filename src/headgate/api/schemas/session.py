"""Sign-in, sessions and the signed-in person as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.accounts.model import (
    Person,
)

Email = Annotated[
    str, Meta(min_length=3, max_length=254, description="An e-mail address. Case does not matter.")
]


Password = Annotated[
    str, Meta(min_length=1, max_length=1024, description="At most 1024 bytes in UTF-8.")
]


Token = Annotated[str, Meta(min_length=1, max_length=128)]


class PersonResponse(msgspec.Struct):
    """A person. `is_operator`: they run this installation."""

    id: str
    email: str
    name: str
    is_operator: bool


class MembershipResponse(msgspec.Struct):
    """What a person is in an organization. The retired role `member` confers nothing."""

    id: str
    name: str
    role: str
    is_suspended: bool


class CurrentSessionResponse(msgspec.Struct):
    """Who is signed in. `csrf_token` goes along with every change as `X-CSRF-Token`; it and
    `session_id` are null for a token of another issuer, which says itself when it ends."""

    session_id: str | None
    person: PersonResponse
    organizations: list[MembershipResponse]
    csrf_token: str | None
    expires_at: datetime.datetime | None


def to_person_response(person: Person) -> PersonResponse:
    """A person as the API writes them."""
    return PersonResponse(person.id, person.email, person.name, person.is_operator)


Returned = Annotated[str, Meta(max_length=4096)]


class SignInRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """An e-mail address and the password that belongs to it."""

    email: Email
    password: Password

    def __repr__(self) -> str:
        return "SignIn()"


class PasswordChange(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The present password, and the next one: 12 characters or more, of any kind."""

    old_password: Password
    new_password: Password

    def __repr__(self) -> str:
        return "PasswordChange()"


class SessionResponse(msgspec.Struct):
    """A login. `current`: the one that asks."""

    id: str
    current: bool
    created_at: datetime.datetime
    last_seen_at: datetime.datetime
    expires_at: datetime.datetime
    address: str
    user_agent: str


class SessionPage(msgspec.Struct):
    """The one that was used last first."""

    sessions: list[SessionResponse]
    total: int
    limit: int
    offset: int


class OidcReturn(msgspec.Struct, frozen=True):
    """What an issuer sends a browser back with. Issuers add fields of their own: let them."""

    code: Returned | None = None
    state: Returned = ""
    iss: Returned | None = None
    error: Returned | None = None
