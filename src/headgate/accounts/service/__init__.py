"""Decisions about organizations, projects, people, their logins and invitations."""

from headgate.accounts.service.accounts import TOPIC, Accounts, find_closed
from headgate.accounts.service.flood import Flood, SignInTooOften
from headgate.accounts.service.hashing import Hasher, Proof, SignInCrowded
from headgate.accounts.service.invitations import Invitations
from headgate.accounts.service.members import Members
from headgate.accounts.service.people import NOT_SIGNED_IN, People
from headgate.accounts.service.recognition import Recognition
from headgate.accounts.service.sessions import Sessions, derive_csrf_token
from headgate.accounts.service.tokens import derive, make_token

__all__ = [
    "NOT_SIGNED_IN",
    "TOPIC",
    "Accounts",
    "Flood",
    "Hasher",
    "Invitations",
    "Members",
    "People",
    "Proof",
    "Recognition",
    "Sessions",
    "SignInCrowded",
    "SignInTooOften",
    "derive",
    "derive_csrf_token",
    "find_closed",
    "make_token",
]
