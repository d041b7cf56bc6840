"""People, what they may do where, how they are known, and what goes wrong with them."""

from __future__ import annotations

import re

import msgspec

from headgate.accounts.model.tenant import Role
from headgate.kit.errors import HeadgateError, Kind

EMAIL_CHARACTERS_MAX = 254
_EMAIL = re.compile(
    r"[a-z0-9.!#$%&'*+/=?^_`{|}~-]{1,64}@[a-z0-9][a-z0-9-]{0,62}(?:\.[a-z0-9-]{1,63})*"
)
ROLE_RANKS = {Role.MEMBER: 0, Role.ADMIN: 1, Role.OWNER: 2}
"""Which role holds more."""


class Person(msgspec.Struct, frozen=True, kw_only=True):
    """Somebody who signs in. `email` is unique and in lower case; `email_verified_at` is set where
    an issuer or the operator vouches for it. A disabled person is nobody. Times in unix seconds."""

    id: str
    email: str
    name: str
    is_operator: bool
    created_at: float
    email_verified_at: float | None = None
    disabled_at: float | None = None
    version: int = 1


class PersonRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Who shall be added. `password_hash` None: only another issuer lets them in."""

    email: str
    name: str
    password_hash: str | None = None
    is_operator: bool = False
    is_verified: bool = False

    def __repr__(self) -> str:
        return f"PersonRequest({self.email})"


class Membership(msgspec.Struct, frozen=True, kw_only=True):
    """What a person is in one organization."""

    organization_id: str
    organization_name: str
    role: Role
    suspended_at: float | None


class Member(msgspec.Struct, frozen=True, kw_only=True):
    """A person as an organization sees them; `version` counts the changes of the membership."""

    person_id: str
    email: str
    name: str
    role: Role
    created_at: float
    disabled_at: float | None
    version: int


class LinkedIdentity(msgspec.Struct, frozen=True):
    """By what another issuer knows a person: its subject, which it never gives to another one."""

    issuer: str
    subject: str
    person_id: str
    created_at: float


class ExternalIdentity(msgspec.Struct, frozen=True, kw_only=True):
    """Whom another issuer speaks of. `email` is None unless the issuer has verified it."""

    issuer: str
    subject: str
    email: str | None
    name: str


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """One login. It ends at `expires_at`, or when it is not used for the idle time."""

    id: str
    person_id: str
    created_at: float
    last_seen_at: float
    expires_at: float
    user_agent: str
    address: str


class Login(msgspec.Struct, frozen=True, kw_only=True):
    """A person who is signed in, with all that they are. `session` is None for a token of
    another issuer, `token` what was presented."""

    person: Person
    memberships: tuple[Membership, ...]
    session: Session | None = None
    token: str = ""

    def __repr__(self) -> str:
        return f"Login({self.person.id})"


class Invitation(msgspec.Struct, frozen=True, kw_only=True):
    """A link by which somebody becomes a member. Without an e-mail, who takes it up gives one:
    only an organization's first owner, whose link is shown to nobody but the operator. With
    `is_operator` it makes the operator of the installation as well."""

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
    """A new invitation with its token, which is not to be had again."""

    invitation: Invitation
    token: str

    def __repr__(self) -> str:
        return f"IssuedInvitation({self.invitation.id})"


class SignInFailedError(HeadgateError):
    """Who they are is not proven. The same words for every reason."""

    kind = Kind.UNAUTHENTICATED
    code = "sign_in_refused"


class InvalidEmailError(HeadgateError):
    """What cannot be an e-mail address."""

    kind = Kind.INVALID
    code = "invalid_email"


class PersonNotFoundError(HeadgateError):
    """No such person, or not in this organization."""

    kind = Kind.MISSING
    code = "not_found"


class PersonExistsError(HeadgateError):
    """The e-mail address is somebody's already."""

    kind = Kind.CONFLICT
    code = "person_exists"


class RoleNotAllowedError(HeadgateError):
    """Only an owner makes and unmakes owners, and nobody raises themselves."""

    kind = Kind.FORBIDDEN
    code = "forbidden"


class LastOwnerError(HeadgateError):
    """An organization, or the installation, would be left without anybody in charge."""

    kind = Kind.CONFLICT
    code = "last_owner"


class InvitationNotFoundError(HeadgateError):
    """No invitation of that token or id that is still open."""

    kind = Kind.MISSING
    code = "not_found"


def check_email(email: str, *, param: str = "email") -> str:
    """The address in lower case, without outer blanks. Raises `InvalidEmailError`.

    In ASCII only, as mail servers write it: two addresses that look alike must not be two people.
    """
    normal = email.strip().lower()
    if len(normal) > EMAIL_CHARACTERS_MAX or not _EMAIL.fullmatch(normal):
        raise InvalidEmailError("This is no e-mail address like ada@example.com.", param=param)
    return normal
