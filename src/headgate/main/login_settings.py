"""Checks the settings for logins, and lists the origins of the configured issuers."""

from __future__ import annotations

from headgate.kit.http.addresses import is_loopback_host
from headgate.kit.http.message import Origin
from headgate.kit.http.url import parse_url
from headgate.settings import InvalidSettingError, Settings, variable_of


def check_login_settings(settings: Settings) -> None:
    """Raise `InvalidSettingError` for settings that are unsafe or incomplete."""
    for name in ("public_url", "oidc_issuer", "jwt_issuer", "jwt_jwks_url"):
        address = getattr(settings, name)
        if address is not None:
            _check_address(name, address)
    if settings.oidc_issuer is not None:
        for name in ("oidc_client_id", "public_url"):
            if getattr(settings, name) is None:
                raise _refuse("oidc_issuer", f"needs {variable_of(name)} as well")
    if settings.jwt_issuer is not None and not settings.jwt_audience:
        reason = "needs HEADGATE_JWT_AUDIENCE as well, or tokens for other applications would count"
        raise _refuse("jwt_issuer", reason)


def list_issuer_origins(settings: Settings) -> list[Origin]:
    """Return the origins of the issuers, which may be local. Raise `InvalidSettingError`."""
    named = ("oidc_issuer", "jwt_issuer", "jwt_jwks_url")
    return [
        _check_address(name, address)
        for name in named
        if (address := getattr(settings, name)) is not None
    ]


def _check_address(name: str, address: str) -> Origin:
    try:
        origin, target = parse_url(address)
    except ValueError as error:
        raise _refuse(name, f"cannot be {address!r}: {error}") from error
    if name == "public_url":
        if target != b"/":
            raise _refuse(name, "must be scheme, host and port without a path")
        if origin.scheme == "http" and not is_loopback_host(origin.host):
            raise _refuse(
                name, "must be https unless the host is this machine: sessions would be readable"
            )
    return origin


def _refuse(name: str, reason: str) -> InvalidSettingError:
    return InvalidSettingError(f"{variable_of(name)} {reason}.", param=name)
