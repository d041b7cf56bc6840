"""The ways to sign in that this installation offers: passwords, issuers, cookies."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from headgate.accounts.service import AccountLinking, LoginRateLimiter, PasswordHasher
from headgate.api.authenticator import RequestAuthenticator
from headgate.api.cookies import Cookies

if TYPE_CHECKING:
    from headgate.accounts.service.oidc import OidcLogin


class AuthenticationMethods(msgspec.Struct, frozen=True, kw_only=True):
    """Hold what operations need to sign people in. `public_url` has no trailing slash."""

    hasher: PasswordHasher
    login_rate_limiter: LoginRateLimiter
    cookies: Cookies
    account_linking: AccountLinking
    authenticator: RequestAuthenticator
    oidc: OidcLogin | None = None
    public_url: str | None = None
