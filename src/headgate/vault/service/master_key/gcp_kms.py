"""Google Cloud KMS by REST: `:encrypt` and `:decrypt` with additional authenticated data.

The access token comes from a service account's file, or else from the metadata server.
"""

from __future__ import annotations

import urllib.parse
from collections.abc import Callable, Mapping
from typing import Any, Protocol

import msgspec
from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import RSAKey

from headgate.kit.http.message import Origin, Request
from headgate.vault.model.base_url import InvalidCredentialError, parse_base_url
from headgate.vault.model.keys import InvalidMasterKeyError
from headgate.vault.service.master_key.key_service import (
    KeyServiceEndpoint,
    KeyServiceUnavailableError,
    Send,
    call_key_service,
    encode_base64,
    encode_context,
    find_text,
    read_base64,
)

PROVIDER = "gcp-kms"
HINT = (
    "Check HEADGATE_MASTER_KEY_NAME (projects/P/locations/L/keyRings/R/cryptoKeys/K), and that the "
    "service account may use this key (roles/cloudkms.cryptoKeyEncrypterDecrypter)."
)
SCOPE = "https://www.googleapis.com/auth/cloudkms"
GRANT = "urn:ietf:params:oauth:grant-type:jwt-bearer"
TOKEN_SECONDS = 300
METADATA_ORIGIN = Origin("http", "169.254.169.254", 80)
"""The metadata server, at the same address on every machine of Google Cloud."""
METADATA_PATH = "/computeMetadata/v1/instance/service-accounts/default/token"


class ServiceAccount(msgspec.Struct, frozen=True):
    client_email: str
    private_key: str
    token_uri: str
    private_key_id: str = ""

    def __repr__(self) -> str:
        return f"ServiceAccount({self.client_email})"


class TokenSource(Protocol):
    def fetch(self) -> str:
        """Return a valid token. Raise `KeyServiceUnavailableError` and `InvalidMasterKeyError`."""
        ...


class AccountToken:
    """Exchange a signed assertion of the service account for a token (RFC 7523)."""

    def __init__(
        self,
        account: ServiceAccount,
        *,
        endpoint: KeyServiceEndpoint,
        send: Send,
        read_time: Callable[[], float],
    ) -> None:
        self._account = account
        self._endpoint = endpoint
        self._send = send
        self._read_time = read_time

    def fetch(self) -> str:
        form = urllib.parse.urlencode({"grant_type": GRANT, "assertion": self._sign()})
        headers = [(b"content-type", b"application/x-www-form-urlencoded")]
        request = self._endpoint.build_request("", headers, form.encode())
        return _read_token(
            self._endpoint, call_key_service(self._send, self._endpoint, request, code="error")
        )

    def _sign(self) -> str:
        account, now = self._account, int(self._read_time())
        claims = {
            "iss": account.client_email,
            "scope": SCOPE,
            "aud": account.token_uri,
            "iat": now,
            "exp": now + TOKEN_SECONDS,
        }
        header = {"alg": "RS256", "kid": account.private_key_id}
        try:
            return jwt.encode(header, claims, RSAKey.import_key(account.private_key))
        except (JoseError, ValueError) as error:
            message = "The private key of the service account's file cannot be used."
            raise InvalidMasterKeyError(message) from error


class MachineToken:
    def __init__(self, *, seconds: float, send: Send) -> None:
        hint = "Outside of Google's cloud, set GOOGLE_APPLICATION_CREDENTIALS."
        self._endpoint = KeyServiceEndpoint(
            "Google's metadata server", METADATA_ORIGIN, b"", seconds, hint
        )
        self._send = send

    def fetch(self) -> str:
        headers = [(b"metadata-flavor", b"Google")]
        post = self._endpoint.build_request(METADATA_PATH, headers, b"")
        request: Request = msgspec.structs.replace(post, method=b"GET")
        return _read_token(self._endpoint, call_key_service(self._send, self._endpoint, request))


class GcpKms:
    """Wrap under a symmetric key of Cloud KMS (`KeyManagementService`)."""

    provider = PROVIDER

    def __init__(
        self, key_name: str, *, endpoint: KeyServiceEndpoint, tokens: TokenSource, send: Send
    ) -> None:
        self.key_name = key_name
        self._endpoint = endpoint
        self._tokens = tokens
        self._send = send

    def wrap(self, material: bytes, context: Mapping[str, str]) -> bytes:
        answer = self._request("encrypt", {"plaintext": encode_base64(material)}, context)
        return read_base64(self._endpoint, answer, "ciphertext")

    def unwrap(self, wrapped: bytes, context: Mapping[str, str]) -> bytes:
        answer = self._request("decrypt", {"ciphertext": encode_base64(wrapped)}, context)
        return read_base64(self._endpoint, answer, "plaintext")

    def _request(self, verb: str, fields: Mapping[str, str], context: Mapping[str, str]) -> Any:
        headers = [
            (b"authorization", f"Bearer {self._tokens.fetch()}".encode()),
            (b"content-type", b"application/json"),
        ]
        body = msgspec.json.encode(
            {**fields, "additionalAuthenticatedData": encode_context(context)}
        )
        path = f"/v1/{urllib.parse.quote(self.key_name)}:{verb}"
        request = self._endpoint.build_request(path, headers, body)
        return call_key_service(self._send, self._endpoint, request, code="error.status")


def read_account(content: bytes, path: str) -> ServiceAccount:
    """Parse a service account's file. Raise `InvalidMasterKeyError`, whose message repeats nothing
    of the content."""
    try:
        account = msgspec.json.decode(content, type=ServiceAccount)
        parse_base_url(account.token_uri)
    except (msgspec.DecodeError, InvalidCredentialError):
        message = f"{path} is no key file of a service account (JSON with client_email, "
        raise InvalidMasterKeyError(f"{message}private_key and token_uri).") from None
    return account


def _read_token(endpoint: KeyServiceEndpoint, answer: Any) -> str:
    token = find_text(answer, "access_token")
    if token and token.isascii() and token.isprintable():
        return token
    raise KeyServiceUnavailableError(f"{endpoint} answers without a token. {endpoint.hint}")
