"""Refuses a start that would put keys and answers on the network in the clear."""

from __future__ import annotations

import ipaddress

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.settings import Settings


class ExposureRefused(HeadgateError):
    kind = Kind.INVALID
    code = "exposure_refused"


def check_exposure(settings: Settings) -> None:
    """Raise for an address that others can reach without TLS, unless that was asked for."""
    if settings.ssl_certfile or settings.allow_public_without_tls or is_loopback(settings.host):
        return
    raise ExposureRefused(
        f"{settings.host} can be reached from other machines, and keys would travel unencrypted. "
        "Give --ssl-certfile and --ssl-keyfile, or put a TLS proxy in front and say "
        "--allow-public-without-tls (HEADGATE_ALLOW_PUBLIC_WITHOUT_TLS=true)."
    )


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach an address to listen on."""
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
