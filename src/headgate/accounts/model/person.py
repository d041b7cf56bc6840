"""People, their roles, sessions, external identities and invitations."""

from __future__ import annotations

import re

import msgspec

from headgate.accounts.model.tenant import Role
from headgate.kit.errors import HeadgateError, Kind

EMAIL_CHARACTERS_MAX = 254
# No quoted local parts, comments or address literals: mail servers read these differently.
_EMAIL = re.compile(
    r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9][a-z0-9-]{0,62}(?:\.[a-z0-9-]{1,63})*"
)
ROLE_RANKS = {Role.MEMBER: 0, Role.ADMIN: 1, Role.OWNER: 2}


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a user. `email` is unique and in lower case. `email_verified_at` is set once an
    issuer or the operator has confirmed the address. A disabled person cannot sign in. Times are
    unix seconds."""

    id: str
    email: str
    name: str
    is_operator: bool
    created_at: float
    email_verified_at: float | None = None
    disabled_at: float | None = None
    version: int = 1


class PersonRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a person to create. Without a `password_hash` they sign in at an issuer only."""

    email: str
    name: str
    password_hash: str | None = None
    is_operator: bool = False
    is_verified: bool = False

    def __repr__(self) -> str:
        return f"PersonRequest({self.email})"


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    organization_id: str
    organization_name: str
    role: Role
    suspended_at: float | None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a person within an organization. `version` counts changes of the membership."""

    person_id: str
    email: str
    name: str
    role: Role
    created_at: float
    disabled_at: float | None
    version: int


class LinkedIdentity(msgspec.Struct, frozen=True):
    """Link an issuer's subject, which the issuer never reuses, to a person."""

    issuer: str
    subject: str
    person_id: str
    created_at: float


class ExternalIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a user as an issuer describes them. `email` is None unless the issuer has verified
    it."""

    issuer: str
    subject: str
    email: str | None
    name: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a login. It ends at `expires_at`, or after the idle time without use."""

    id: str
    person_id: str
    created_at: float
    last_seen_at: float
    expires_at: float
    user_agent: str
    address: str


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a signed-in person. `session` is None for a token of an issuer. `token` is the
    secret that was presented."""

    person: Person
    memberships: tuple[Membership, ...]
    session: Session | None = None
    token: str = ""

    def __repr__(self) -> str:
        return f"Login({self.person.id})"


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a link that makes somebody a member. Without an `email` the invitee gives their
    own: only the first owner of an organization is invited so. With `is_operator` it also makes the
    operator of the installation."""

    id: str
    organization_id: str
    email: str | None
    role: Role
    is_operator: bool
    invited_by: str
    created_at: float
    expires_at: float
    accepted_at: float | None = None


class IssuedInvitation(msgspec.Struct, frozen=True):
    """Hold a new invitation and its token, which is not stored."""

    invitation: Invitation
    token: str

    def __repr__(self) -> str:
        return f"IssuedInvitation({self.invitation.id})"


class SignInFailedError(HeadgateError):
    """The sign-in failed, for whatever reason: the text is the same for all.

    Check the address and the password, or ask an owner of your organization for an invitation.
    """

    kind = Kind.UNAUTHENTICATED
    code = "sign_in_refused"


class InvalidEmailError(HeadgateError):
    """The value is not an e-mail address.

    Send an address like `ada@example.com`.
    """

    kind = Kind.INVALID
    code = "invalid_email"


class PersonNotFoundError(HeadgateError):
    """There is no such person, or not in this organization.

    Check the id, and the organization in `X-Organization-ID`.
    """

    kind = Kind.MISSING
    code = "not_found"


class PersonExistsError(HeadgateError):
    """A person with this e-mail address exists already.

    Use that person, or another address.
    """

    kind = Kind.CONFLICT
    code = "person_exists"


class RoleNotAllowedError(HeadgateError):
    """Only an owner makes or removes owners, and nobody raises their own role.

    Ask an owner of the organization.
    """

    kind = Kind.FORBIDDEN
    code = "forbidden"


class LastOwnerError(HeadgateError):
    """The change would leave the organization without an owner, or the installation without an
    operator.

    Make another owner or operator first.
    """

    kind = Kind.CONFLICT
    code = "last_owner"


class InvitationNotFoundError(HeadgateError):
    """No open invitation has this token or id.

    Ask for a new invitation: each one is accepted once, and expires.
    """

    kind = Kind.MISSING
    code = "not_found"


def check_email(email: str, *, param: str = "email") -> str:
    """Return the address in lower case without outer blanks. Raise `InvalidEmailError`. Only ASCII
    is accepted: two addresses that look alike must not be two people."""
    normalized = email.strip().lower()
    if len(normalized) > EMAIL_CHARACTERS_MAX or not _EMAIL.fullmatch(normalized):
        raise InvalidEmailError(
            "This is not an e-mail address such as ada@example.com.", param=param
        )
    return normalized
