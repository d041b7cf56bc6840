"""Builds the key service that a configuration names: AWS KMS, Google Cloud KMS or transit."""

from __future__ import annotations

import functools
import re
from collections.abc import Callable
from pathlib import Path

import msgspec

from headgate.kit.clock import Clock
from headgate.vault.model.base_url import InvalidCredentialError, parse_base_url
from headgate.vault.model.keys import InvalidMasterKeyError
from headgate.vault.service.master_key import aws_kms, gcp_kms, transit
from headgate.vault.service.master_key.key_service import (
    KeyManagementService,
    KeyServiceEndpoint,
    Send,
)
from headgate.vault.service.master_key.signing import Signer

OpenSender = Callable[..., Send]
"""Return a function that sends requests to the given origins, and to no others."""
_VISIBLE = re.compile(r"[\x21-\x7e]+")
_ARN = re.compile(r"arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:(?:key|alias)/[A-Za-z0-9/_-]+")
_RESOURCE = re.compile(r"projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s?#]+")
_TRANSIT = re.compile(r"(?:[A-Za-z0-9._-]+/)*[A-Za-z0-9._-]+")


class InvalidKeyServiceConfigError(ValueError):
    """Report a field of `KeyServiceConfig` that is missing or invalid, with what it must be."""

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field} {reason}")
        self.field = field
        self.reason = reason


class KeyServiceConfig(msgspec.Struct, frozen=True, kw_only=True):
    master_key_provider: str
    master_key_name: str | None
    master_key_address: str | None
    master_key_seconds: float
    vault_token: str | None
    vault_token_file: Path | None
    aws_access_key_id: str | None
    aws_secret_access_key: str | None
    aws_session_token: str | None
    aws_region: str | None
    google_application_credentials: Path | None

    def __repr__(self) -> str:
        return f"KeyServiceConfig({self.master_key_provider}, {self.master_key_name})"


def build_key_service(
    config: KeyServiceConfig, open_sender: OpenSender, clock: Clock
) -> KeyManagementService:
    """Build the client of a key service.

    Raise `InvalidKeyServiceConfigError` and `InvalidMasterKeyError`.
    """
    provider = config.master_key_provider
    if provider == aws_kms.PROVIDER:
        return _build_aws(config, open_sender, clock)
    if provider == gcp_kms.PROVIDER:
        return _build_gcp(config, open_sender, clock)
    return _build_transit(config, open_sender)


def _build_aws(
    config: KeyServiceConfig, open_sender: OpenSender, clock: Clock
) -> KeyManagementService:
    name = _require(config, "master_key_name", "the ARN, id or alias of the key")
    arn = _ARN.fullmatch(name)
    region = arn[1] if arn else _require(config, "aws_region", "or a key's whole ARN as its name")
    address = config.master_key_address or f"https://kms.{region}.amazonaws.com"
    endpoint = _build_endpoint(config, "AWS KMS", address, aws_kms.HINT)
    signer = Signer(
        access_key_id=_require(config, "aws_access_key_id", "the id of the access key"),
        secret_access_key=_require(config, "aws_secret_access_key", "the key that signs requests"),
        session_token=config.aws_session_token,
        region=region,
        service="kms",
    )
    send = open_sender(endpoint.origin)
    return aws_kms.AwsKms(name, endpoint=endpoint, signer=signer, send=send, read_time=clock.now)


def _build_gcp(
    config: KeyServiceConfig, open_sender: OpenSender, clock: Clock
) -> KeyManagementService:
    name = _require(config, "master_key_name", "the key's resource name", _RESOURCE)
    address = config.master_key_address or "https://cloudkms.googleapis.com"
    endpoint = _build_endpoint(config, "Google Cloud KMS", address, gcp_kms.HINT)
    path = config.google_application_credentials
    tokens: gcp_kms.TokenSource
    if path is None:
        send = open_sender(endpoint.origin, gcp_kms.METADATA_ORIGIN)
        tokens = gcp_kms.MachineToken(seconds=config.master_key_seconds, send=send)
    else:
        account = gcp_kms.read_account(_read_file(path), str(path))
        hint = f"Check that the key in {path} is still valid, and this machine's clock."
        issuer = _build_endpoint(config, "Google's token service", account.token_uri, hint)
        send = open_sender(endpoint.origin, issuer.origin)
        tokens = gcp_kms.AccountToken(account, endpoint=issuer, send=send, read_time=clock.now)
    return gcp_kms.GcpKms(name, endpoint=endpoint, tokens=tokens, send=send)


def _build_transit(config: KeyServiceConfig, open_sender: OpenSender) -> KeyManagementService:
    name = _require(config, "master_key_name", "MOUNT/KEY, such as transit/headgate", _TRANSIT)
    address = _require(config, "master_key_address", "such as https://vault.example:8200")
    endpoint = _build_endpoint(config, "The transit engine", address, transit.HINT)
    path = config.vault_token_file
    if path is None:
        token = _require(config, "vault_token", "or HEADGATE_VAULT_TOKEN_FILE")
        read_token = functools.partial(str, token)
    else:
        read_token = functools.partial(_read_token, path)
    send = open_sender(endpoint.origin)
    return transit.Transit(name, endpoint=endpoint, read_token=read_token, send=send)


def _build_endpoint(
    config: KeyServiceConfig, name: str, address: str, hint: str
) -> KeyServiceEndpoint:
    try:
        origin, path = parse_base_url(address)
    except InvalidCredentialError as error:
        # Without the address itself: it may hold a password.
        reason = f"cannot be used: {error.message}"
        raise InvalidKeyServiceConfigError("master_key_address", reason) from error
    return KeyServiceEndpoint(name, origin, path, config.master_key_seconds, hint)


def _require(
    config: KeyServiceConfig, field: str, what: str, form: re.Pattern[str] = _VISIBLE
) -> str:
    value: str | None = getattr(config, field)
    if value is not None and form.fullmatch(value):
        return value
    state = "is missing" if value is None else "is wrong"
    provider = config.master_key_provider
    raise InvalidKeyServiceConfigError(
        field, f"{state}: the master key provider {provider} needs it ({what})."
    )


def _read_token(path: Path) -> str:
    token = _read_file(path).decode("latin-1").strip()
    if token.isascii() and token.isprintable() and token:
        return token
    raise InvalidMasterKeyError(f"{path} holds no token.")


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidMasterKeyError(f"{path} cannot be read: {error.strerror}.") from error
