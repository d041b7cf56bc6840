"""Decisions about organizations, projects, people, their logins and invitations."""

from headgate.accounts.service.account_linking import AccountLinking
from headgate.accounts.service.accounts import TOPIC, AccountService, find_closed
from headgate.accounts.service.hashing import Hasher, Proof, SignInCrowded
from headgate.accounts.service.invitations import InvitationService
from headgate.accounts.service.login_rate_limiter import LoginRateLimiter, SignInTooOften
from headgate.accounts.service.members import MemberService
from headgate.accounts.service.people import NOT_SIGNED_IN, PersonService
from headgate.accounts.service.sessions import SessionService, derive_csrf_token
from headgate.accounts.service.tokens import derive, make_token

__all__ = [
    "NOT_SIGNED_IN",
    "TOPIC",
    "AccountLinking",
    "AccountService",
    "Hasher",
    "InvitationService",
    "LoginRateLimiter",
    "MemberService",
    "PersonService",
    "Proof",
    "SessionService",
    "SignInCrowded",
    "SignInTooOften",
    "derive",
    "derive_csrf_token",
    "find_closed",
    "make_token",
]
