"""What people come in by: passwords, other issuers, cookies."""

from __future__ import annotations

from typing import Protocol

import msgspec

from headgate.accounts.model import ExternalIdentity
from headgate.accounts.service import AccountLinking, LoginRateLimiter, PasswordHasher
from headgate.api.authenticator import RequestAuthenticator
from headgate.api.cookies import Cookies


class Oidc(Protocol):
    """Signing in at a configured OpenID Connect issuer."""

    def start_flow(self) -> str:
        """What the browser keeps while its person is away."""
        ...

    async def build_authorization_url(self, flow: str) -> str:
        """Where the browser goes."""
        ...

    def check_state(self, flow: str, state: str, issuer: str | None) -> None:
        """Raise `SignInFailedError` unless this browser was sent for this answer, just now."""
        ...

    async def exchange_code(self, flow: str, code: str) -> ExternalIdentity:
        """Who came back."""
        ...


class AuthenticationMethods(msgspec.Struct, frozen=True, kw_only=True):
    """The ways in. `public_url` has no slash at its end; None where it was not said."""

    hasher: PasswordHasher
    login_rate_limiter: LoginRateLimiter
    cookies: Cookies
    account_linking: AccountLinking
    authenticator: RequestAuthenticator
    oidc: Oidc | None = None
    public_url: str | None = None
