"""Builds the authentication methods from the settings."""

from __future__ import annotations

import importlib
from typing import Any

from headgate.accounts.service import AccountLinking, LoginRateLimiter
from headgate.api.authentication import AuthenticationMethods
from headgate.api.authenticator import RequestAuthenticator
from headgate.api.cookies import Cookies
from headgate.kit.db.async_database import AsyncDatabase
from headgate.kit.http.message import Client
from headgate.main.application import Application
from headgate.settings import Settings

ISSUER = "headgate.accounts.service.issuer"
# Both are loaded only where an issuer is configured: they bring their own cryptography.
OIDC = "headgate.accounts.service.oidc"
CALLBACK_PATH = "/api/session/oidc/callback"


def build_authentication(
    application: Application, storage: AsyncDatabase, client: Client
) -> AuthenticationMethods:
    settings = application.settings
    cookies = Cookies(is_secure=_is_secure(settings))
    account_linking = AccountLinking(
        application.people,
        application.invitations,
        domains=settings.oidc_domains,
        trusted_domains=settings.oidc_trusted_domains,
    )
    oidc, tokens = _build_issuer_methods(application, client)
    authenticator = RequestAuthenticator(
        storage, application.sessions, account_linking, cookies=cookies, tokens=tokens
    )
    return AuthenticationMethods(
        hasher=application.hasher,
        login_rate_limiter=LoginRateLimiter(
            application.clock, per_minute=settings.sign_ins_per_minute
        ),
        cookies=cookies,
        account_linking=account_linking,
        authenticator=authenticator,
        oidc=oidc,
        public_url=_normalize_url(settings.public_url),
    )


def _build_issuer_methods(application: Application, client: Client) -> tuple[Any, Any]:
    """Return the sign-in at an OIDC issuer and the check of bearer tokens; None if not
    configured."""
    settings, clock = application.settings, application.clock
    if settings.oidc_issuer is None and settings.jwt_issuer is None:
        return None, None
    issuers, oidc_module = importlib.import_module(ISSUER), importlib.import_module(OIDC)
    oidc = tokens = None
    if settings.oidc_issuer is not None:
        assert settings.oidc_client_id is not None, "checked before the start"
        issuer = issuers.Issuer(client, clock, url=settings.oidc_issuer, jwks_url=None)
        oidc_client = oidc_module.OidcClient(
            settings.oidc_client_id,
            settings.oidc_client_secret,
            settings.oidc_scopes,
            f"{_normalize_url(settings.public_url)}{CALLBACK_PATH}",
        )
        oidc = oidc_module.OidcLogin(issuer, oidc_client, clock)
    if settings.jwt_issuer is not None:
        issuer = issuers.Issuer(
            client, clock, url=settings.jwt_issuer, jwks_url=settings.jwt_jwks_url
        )
        tokens = oidc_module.TokenAuthenticator(issuer, settings.jwt_audience)
    return oidc, tokens


def _is_secure(settings: Settings) -> bool:
    """Return whether browsers reach this server over TLS, directly or through a proxy."""
    # The operator's word counts first: a proxy may end TLS in front of this server.
    if settings.public_url is not None:
        return settings.public_url.startswith("https:")
    return settings.ssl_certfile is not None or settings.allow_public_without_tls


def _normalize_url(url: str | None) -> str | None:
    return None if url is None else url.rstrip("/").lower()
