"""Refuses a start that would send keys and answers unencrypted over a network."""

from __future__ import annotations

import ssl

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.addresses import is_loopback_host
from headgate.settings import Settings


class UnsafeExposureError(HeadgateError):
    """The server would listen to other machines without TLS.

    Give `--ssl-certfile` and `--ssl-keyfile`, or put a TLS proxy in front and state it.
    """

    kind = Kind.INVALID
    code = "exposure_refused"


class InvalidCertificateError(HeadgateError):
    """The TLS certificate or its key cannot be used.

    Give a certificate chain and its private key, both in PEM.
    """

    kind = Kind.INVALID
    code = "certificate_refused"


def check_certificate(settings: Settings) -> None:
    """Raise for a certificate or key that TLS cannot use."""
    certificate, key = settings.ssl_certfile, settings.ssl_keyfile
    if certificate is None:
        if key is not None:
            raise InvalidCertificateError(
                "--ssl-keyfile needs the certificate, too: --ssl-certfile."
            )
        return
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key)
    except OSError as error:
        pair = certificate if key is None else f"{certificate} and {key}"
        raise InvalidCertificateError(
            f"TLS cannot use {pair}: {error.strerror or error}. "
            "Give a certificate chain and its private key, both in PEM format."
        ) from error


def check_exposure(settings: Settings) -> None:
    """Raise if other machines can reach the address without TLS, unless the operator allowed
    that."""
    if (
        settings.ssl_certfile
        or settings.allow_public_without_tls
        or is_loopback_host(settings.host)
    ):
        return
    raise UnsafeExposureError(
        f"{settings.host} can be reached from other machines, and keys would travel unencrypted. "
        "Give --ssl-certfile and --ssl-keyfile, or put a TLS proxy in front and say "
        "--allow-public-without-tls (HEADGATE_ALLOW_PUBLIC_WITHOUT_TLS=true)."
    )
