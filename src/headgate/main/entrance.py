"""Builds the ways in for people from the settings."""

from __future__ import annotations

import importlib
from typing import Any

from headgate.accounts.service import Flood, Recognition
from headgate.api.cookies import Cookies
from headgate.api.entrance import Entrance
from headgate.api.identity import Identity
from headgate.api.storage import Storage
from headgate.kit.http.message import Client
from headgate.kit.settings import Settings
from headgate.main.installation import Installation

ISSUER = "headgate.accounts.service.issuer"
DOORS = "headgate.accounts.service.oidc"
"""Both are loaded only where an issuer is configured: they bring their own cryptography."""
CALLBACK_PATH = "/api/session/oidc/callback"


def build_entrance(installation: Installation, storage: Storage, client: Client) -> Entrance:
    """The ways in for people."""
    settings = installation.settings
    cookies = Cookies(is_secure=_is_secure(settings))
    recognition = Recognition(
        installation.people,
        installation.invitations,
        domains=settings.oidc_domains,
        trusted_domains=settings.oidc_trusted_domains,
    )
    oidc, tokens = _build_doors(installation, client)
    identity = Identity(storage, installation.sessions, recognition, cookies=cookies, tokens=tokens)
    return Entrance(
        hasher=installation.hasher,
        flood=Flood(installation.clock, per_minute=settings.sign_ins_per_minute),
        cookies=cookies,
        recognition=recognition,
        identity=identity,
        oidc=oidc,
        public_url=_clean(settings.public_url),
    )


def _build_doors(installation: Installation, client: Client) -> tuple[Any, Any]:
    """To the issuer that browsers are sent to, and to that of bearer tokens; each may be none."""
    settings, clock = installation.settings, installation.clock
    if settings.oidc_issuer is None and settings.jwt_issuer is None:
        return None, None
    issuers, doors = importlib.import_module(ISSUER), importlib.import_module(DOORS)
    oidc = tokens = None
    if settings.oidc_issuer is not None:
        assert settings.oidc_client_id is not None, "checked before the start"
        issuer = issuers.Issuer(client, clock, url=settings.oidc_issuer, jwks_url=None)
        registered = doors.OidcClient(
            settings.oidc_client_id,
            settings.oidc_client_secret,
            settings.oidc_scopes,
            f"{_clean(settings.public_url)}{CALLBACK_PATH}",
        )
        oidc = doors.OidcDoor(issuer, registered, clock)
    if settings.jwt_issuer is not None:
        issuer = issuers.Issuer(
            client, clock, url=settings.jwt_issuer, jwks_url=settings.jwt_jwks_url
        )
        tokens = doors.TokenDoor(issuer, settings.jwt_audience)
    return oidc, tokens


def _is_secure(settings: Settings) -> bool:
    """Whether browsers reach this over TLS, here or at a proxy in front."""
    if settings.public_url is not None:
        return settings.public_url.startswith("https:")
    return settings.ssl_certfile is not None or settings.allow_public_without_tls


def _clean(url: str | None) -> str | None:
    return None if url is None else url.rstrip("/").lower()
