"""Builds the source of the master key from the settings: this machine, or a key service."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from headgate.data_directory.leftovers import MASTER_KEY_FILE
from headgate.kit.clock import SystemClock
from headgate.kit.http.errors import EgressError
from headgate.kit.http.message import Origin, Request
from headgate.main.egress import build_rule, open_client
from headgate.settings import InvalidSettingError, Settings, variable_of
from headgate.vault.model.base_url import InvalidCredentialError, parse_base_url
from headgate.vault.model.keys import InvalidMasterKeyError
from headgate.vault.service.master_key import (
    LOCAL,
    KeyManagementService,
    LocalSource,
    RemoteSource,
    aws_kms,
    gcp_kms,
    transit,
)
from headgate.vault.service.master_key.key_service import (
    ANSWER_BYTES_MAX,
    KeyServiceEndpoint,
    KeyServiceResponse,
    Send,
)
from headgate.vault.service.master_key.signing import Signer

METADATA_ORIGIN = Origin("http", "169.254.169.254", 80)
"""Google's metadata server, on each of its machines, by the address that does not change."""
_ARN = re.compile(r"arn:aws[a-z-]*:kms:([a-z0-9-]+):[0-9]{12}:(?:key|alias)/[A-Za-z0-9/_-]+")
_RESOURCE = re.compile(r"projects/[^/\s]+/locations/[^/\s]+/keyRings/[^/\s]+/cryptoKeys/[^/\s?#]+")
_TRANSIT = re.compile(r"(?:[A-Za-z0-9._-]+/)*[A-Za-z0-9._-]+")


class KeyServiceSender:
    """Send requests to a key service through the egress client; block until the answer is read. The
    operator named the service in the settings, so its origin is allowed for this purpose only."""

    def __init__(self, settings: Settings, *origins: Origin) -> None:
        self._settings = settings
        self._rule = build_rule(settings).with_origins(*origins)

    def __call__(self, request: Request) -> KeyServiceResponse:
        with ThreadPoolExecutor(1, thread_name_prefix="headgate-key-service") as pool:
            return pool.submit(asyncio.run, self._send(request)).result()

    async def _send(self, request: Request) -> KeyServiceResponse:
        client = open_client(self._settings, self._rule)
        try:
            response = await client.send(request)
            return KeyServiceResponse(response.status, await response.read(ANSWER_BYTES_MAX))
        except OSError as error:
            raise EgressError(str(error)) from error
        finally:
            await client.close()


def build_source(settings: Settings) -> LocalSource | RemoteSource:
    """Return the source of the master key that the settings name. Raise `InvalidSettingError` and
    `InvalidMasterKeyError`."""
    if settings.master_key_provider == LOCAL:
        return LocalSource(text=settings.master_key, path=settings.data / MASTER_KEY_FILE)
    return RemoteSource(_BUILDERS[settings.master_key_provider](settings))


def _build_aws(settings: Settings) -> KeyManagementService:
    name = _need(settings, "master_key_name", "the ARN, id or alias of the key")
    arn = _ARN.fullmatch(name)
    region = arn[1] if arn else _need(settings, "aws_region", "or a key's whole ARN as its name")
    address = settings.master_key_address or f"https://kms.{region}.amazonaws.com"
    endpoint = _build_endpoint(settings, "AWS KMS", address, aws_kms.HINT)
    signer = Signer(
        access_key_id=_need(settings, "aws_access_key_id", "who asks"),
        secret_access_key=_need(settings, "aws_secret_access_key", "what requests are signed with"),
        session_token=settings.aws_session_token,
        region=region,
        service="kms",
    )
    return aws_kms.AwsKms(
        name,
        endpoint=endpoint,
        signer=signer,
        send=KeyServiceSender(settings, endpoint.origin),
        read_time=SystemClock.now,
    )


def _build_gcp(settings: Settings) -> KeyManagementService:
    name = _need(settings, "master_key_name", "the key's resource name", _RESOURCE)
    address = settings.master_key_address or "https://cloudkms.googleapis.com"
    endpoint = _build_endpoint(settings, "Google Cloud KMS", address, gcp_kms.HINT)
    path = settings.google_application_credentials
    tokens: gcp_kms.TokenSource
    send: Send
    if path is None:
        send = KeyServiceSender(settings, endpoint.origin, METADATA_ORIGIN)
        metadata = KeyServiceEndpoint(
            "Google's metadata server",
            METADATA_ORIGIN,
            b"",
            settings.master_key_seconds,
            "Outside of Google's cloud, set GOOGLE_APPLICATION_CREDENTIALS.",
        )
        tokens = gcp_kms.MachineToken(endpoint=metadata, send=send)
    else:
        account = gcp_kms.read_account(_read_file(path), str(path))
        hint = f"Check that the key in {path} is still valid, and this machine's clock."
        issuer = _build_endpoint(settings, "Google's token service", account.token_uri, hint)
        send = KeyServiceSender(settings, endpoint.origin, issuer.origin)
        tokens = gcp_kms.AccountToken(
            account, endpoint=issuer, send=send, read_time=SystemClock.now
        )
    return gcp_kms.GcpKms(name, endpoint=endpoint, tokens=tokens, send=send)


def _build_transit(settings: Settings) -> KeyManagementService:
    name = _need(settings, "master_key_name", "MOUNT/KEY, such as transit/headgate", _TRANSIT)
    address = _need(settings, "master_key_address", "such as https://vault.example:8200")
    endpoint = _build_endpoint(settings, "The transit engine", address, transit.HINT)
    return transit.Transit(
        name,
        endpoint=endpoint,
        read_token=lambda: _read_token(settings),
        send=KeyServiceSender(settings, endpoint.origin),
    )


_BUILDERS: Mapping[str, Callable[[Settings], KeyManagementService]] = {
    aws_kms.PROVIDER: _build_aws,
    gcp_kms.PROVIDER: _build_gcp,
    transit.PROVIDER: _build_transit,
}


def _build_endpoint(settings: Settings, name: str, address: str, hint: str) -> KeyServiceEndpoint:
    try:
        origin, path = parse_base_url(address)
    except InvalidCredentialError as error:
        variable = variable_of("master_key_address")
        # Without the address itself: it may hold a password.
        message = f"{variable} cannot be used: {error.message}"
        raise InvalidSettingError(message, param="master_key_address") from error
    return KeyServiceEndpoint(name, origin, path, settings.master_key_seconds, hint)


def _need(
    settings: Settings, name: str, what: str, form: re.Pattern[str] = re.compile(r"[\x21-\x7e]+")
) -> str:
    value: str | None = getattr(settings, name)
    if value is not None and form.fullmatch(value):
        return value
    provider, state = settings.master_key_provider, "is missing" if value is None else "is wrong"
    raise InvalidSettingError(
        f"{variable_of(name)} {state}: the master key provider {provider} needs it ({what}).",
        param=name,
    )


def _read_token(settings: Settings) -> str:
    if settings.vault_token_file is None:
        return _need(settings, "vault_token", "or HEADGATE_VAULT_TOKEN_FILE")
    token = _read_file(settings.vault_token_file).decode("latin-1").strip()
    if token.isascii() and token.isprintable() and token:
        return token
    raise InvalidMasterKeyError(f"{settings.vault_token_file} holds no token.")


def _read_file(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError as error:
        raise InvalidMasterKeyError(f"{path} cannot be read: {error.strerror}.") from error
