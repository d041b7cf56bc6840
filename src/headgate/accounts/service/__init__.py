"""Operations on organizations, projects, people, sessions and invitations."""

from headgate.accounts.service.account_linking import AccountLinking
from headgate.accounts.service.accounts import TOPIC, AccountService, find_inactive_accounts
from headgate.accounts.service.first_owner import FirstOwner
from headgate.accounts.service.invitations import InvitationService
from headgate.accounts.service.login_rate_limiter import LoginRateLimiter, TooManySignInsError
from headgate.accounts.service.members import MemberService
from headgate.accounts.service.password_hasher import (
    PasswordCheck,
    PasswordHasher,
    SignInOverloadedError,
)
from headgate.accounts.service.people import NOT_SIGNED_IN, PersonService
from headgate.accounts.service.sessions import SessionService, derive_csrf_token
from headgate.accounts.service.workspace_index import WorkspaceIndex

__all__ = [
    "NOT_SIGNED_IN",
    "TOPIC",
    "AccountLinking",
    "AccountService",
    "FirstOwner",
    "InvitationService",
    "LoginRateLimiter",
    "MemberService",
    "PasswordCheck",
    "PasswordHasher",
    "PersonService",
    "SessionService",
    "SignInOverloadedError",
    "TooManySignInsError",
    "WorkspaceIndex",
    "derive_csrf_token",
    "find_inactive_accounts",
]
