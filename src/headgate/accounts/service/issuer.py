"""An OpenID Connect or JWT issuer: its discovery document, its keys, and the check of its tokens.

This module brings its own cryptography, so it is loaded only where an issuer is configured.
"""

from __future__ import annotations

import asyncio
import binascii
from collections.abc import Mapping, Sequence
from typing import Any, cast

import msgspec
import structlog
from joserfc import jws, jwt
from joserfc.errors import JoseError
from joserfc.jwk import ECKey, KeySet, OKPKey, RSAKey

from headgate.accounts.model import ExternalIdentity
from headgate.kit.clock import Clock
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.http.errors import EgressError
from headgate.kit.http.message import Client, Headers, Request, Timeouts
from headgate.kit.http.url import parse_url

# Asymmetric signatures only: with `none` or HS* anybody, or every client, could sign.
ALGORITHMS = (
    *("RS256", "RS384", "RS512", "PS256", "PS384", "PS512"),
    *("ES256", "ES384", "ES512", "EdDSA", "Ed25519"),
)
KEY_TYPES = {"RSA": RSAKey, "EC": ECKey, "OKP": OKPKey}
# The purpose of requests to issuers, by which the egress guard chooses its rule.
IDENTITY = "identity"
DISCOVERY_PATH = "/.well-known/openid-configuration"
RESPONSE_BYTES_MAX = 256 * 1024
TIMEOUTS = Timeouts(
    connect_seconds=5.0, first_byte_seconds=10.0, idle_seconds=10.0, total_seconds=15.0
)
LEEWAY_SECONDS = 30.0
# Older keys are fetched again in the background.
KEYS_FRESH_SECONDS = 600.0
# Tokens with unknown key ids cannot make this server ask the issuer more often.
RETRY_SECONDS = 10.0
TOKEN_CHARACTERS_MAX = 16_384
TEXT_CHARACTERS_MAX = 255

NOT_ACCEPTED = (
    "This token is not accepted here: it is invalid, of another issuer, or for another audience."
)
EXPIRED = "This login has expired. Sign in again."

log = structlog.get_logger(__name__)


class InvalidTokenError(HeadgateError):
    """The token of the identity provider is expired, malformed, or was issued for another audience.

    Sign in again; an operator checks the `HEADGATE_OIDC_...` settings.
    """

    kind = Kind.UNAUTHENTICATED
    code = "invalid_token"


class IssuerUnreachableError(HeadgateError):
    """The identity provider (OIDC issuer) did not answer as it should.

    Try again; the log of the server says what the issuer answered.
    """

    kind = Kind.UPSTREAM
    code = "issuer_unreachable"


class IssuerKeysUnavailableError(HeadgateError):
    """The signing keys of the identity provider have not been read yet.

    Try again in a moment; an operator checks that the issuer can be reached.
    """

    kind = Kind.UNAVAILABLE
    code = "issuer_unreachable"


class Issuer:
    """Represent one issuer. Its keys are fetched when they are first needed, and cached."""

    def __init__(self, client: Client, clock: Clock, *, url: str, jwks_url: str | None) -> None:
        self.url = url
        self._client = client
        self._clock = clock
        self._jwks_url = jwks_url
        self._metadata: Mapping[str, Any] | None = None
        self._keys: KeySet | None = None
        self._read_at = self._tried_at = float("-inf")
        self._refreshing: asyncio.Task[None] | None = None

    async def find_endpoint(self, name: str) -> str:
        """Return a URL from the discovery document. Raise `IssuerUnreachableError`."""
        if self._metadata is None:
            address = self.url.rstrip("/") + DISCOVERY_PATH
            metadata = await self.fetch("GET", address)
            # OpenID Connect Discovery 4.3 demands the same URL to the letter.
            if metadata.get("issuer") != self.url:
                log.warning("issuer.differs", configured=self.url, found=metadata.get("issuer"))
                raise IssuerUnreachableError(
                    "The discovery document of the login issuer names another issuer."
                )
            self._metadata = metadata
        found = self._metadata.get(name)
        if not isinstance(found, str):
            log.warning("issuer.endpoint_missing", issuer=self.url, endpoint=name)
            raise IssuerUnreachableError(
                f"The discovery document of the login issuer has no {name}."
            )
        return found

    async def fetch(
        self, method: str, address: str, *, headers: Headers | None = None, body: bytes = b""
    ) -> dict[str, Any]:
        """Return the JSON object at a URL. Raise `IssuerUnreachableError`. Neither the log nor the
        error contains the headers or the body of the request."""
        try:
            origin, target = parse_url(address)
            sent = [(b"accept", b"application/json"), *(headers or [])]
            request = Request(
                origin, method.encode(), target, sent, body, TIMEOUTS, purpose=IDENTITY
            )
            response = await self._client.send(request)
            answer = await response.read(RESPONSE_BYTES_MAX)
            if response.status != 200:
                raise ValueError(f"status {response.status}")
            return msgspec.json.decode(answer, type=dict[str, Any])
        except (EgressError, ValueError, msgspec.DecodeError) as error:
            log.warning("issuer.failed", issuer=self.url, address=address, error=str(error))
            raise IssuerUnreachableError(
                "The login issuer did not answer properly. Try again later."
            ) from error

    async def verify(
        self, token: str, *, audiences: Sequence[str], nonce: str | None = None
    ) -> Mapping[str, Any]:
        """Return the claims of a valid token of this issuer for one of the audiences. Raise
        `InvalidTokenError`, and `IssuerKeysUnavailableError` while no keys could be fetched."""
        header = _read_header(token)
        kid = header.get("kid")
        keys = await self._find_keys(kid if isinstance(kid, str) else None)
        try:
            claims = jwt.decode(token, keys, algorithms=ALGORITHMS).claims
        except (JoseError, ValueError, binascii.Error) as error:
            raise InvalidTokenError(NOT_ACCEPTED) from error
        self._check(claims, audiences, nonce)
        return claims

    def _check(
        self, claims: Mapping[str, Any], audiences: Sequence[str], nonce: str | None
    ) -> None:
        now = self._clock.now()
        if claims.get("iss") != self.url or not _has_audience(claims, audiences):
            raise InvalidTokenError(NOT_ACCEPTED)
        if nonce is not None and claims.get("nonce") != nonce:
            raise InvalidTokenError(NOT_ACCEPTED)
        subject = claims.get("sub")
        if not isinstance(subject, str) or not 0 < len(subject) <= TEXT_CHARACTERS_MAX:
            raise InvalidTokenError(NOT_ACCEPTED)
        # A token without an expiry would be valid forever.
        if not _is_number(claims.get("exp")):
            raise InvalidTokenError(NOT_ACCEPTED)
        if claims["exp"] + LEEWAY_SECONDS <= now:
            raise InvalidTokenError(EXPIRED)
        for name in ("nbf", "iat"):
            at = claims.get(name)
            if at is not None and (not _is_number(at) or at - LEEWAY_SECONDS > now):
                raise InvalidTokenError(NOT_ACCEPTED)

    async def _find_keys(self, kid: str | None) -> KeySet:
        age = self._clock.monotonic() - self._read_at
        # An unknown key id means that the issuer has rotated its keys, so this token waits for
        # them.
        if self._keys is None or (kid is not None and kid not in _list_ids(self._keys)):
            await self._refresh_keys(wait=True)
        elif age > KEYS_FRESH_SECONDS:
            await self._refresh_keys(wait=False)
        if self._keys is None:
            raise IssuerKeysUnavailableError(
                "The login issuer cannot be reached at the moment.",
                retry_after_seconds=RETRY_SECONDS,
            )
        return self._keys

    async def _refresh_keys(self, *, wait: bool) -> None:
        """Fetch the keys unless that was tried a moment ago. Concurrent callers share one fetch."""
        if self._refreshing is None:
            now = self._clock.monotonic()
            if now - self._tried_at < RETRY_SECONDS:
                return
            self._tried_at = now
            self._refreshing = asyncio.create_task(self._fetch_keys())
        if wait:
            # A caller that disconnects must not cancel the fetch for the others.
            await asyncio.shield(self._refreshing)

    async def _fetch_keys(self) -> None:
        try:
            address = self._jwks_url or await self.find_endpoint("jwks_uri")
            document = await self.fetch("GET", address)
            self._keys = parse_jwks(document)
            self._read_at = self._clock.monotonic()
        except HeadgateError:
            pass  # It is logged already. The old keys stay in use.
        except (JoseError, ValueError, TypeError, KeyError) as error:
            log.warning("issuer.keys_unusable", issuer=self.url, error=str(error))
        finally:
            self._refreshing = None


def parse_jwks(document: Mapping[str, Any]) -> KeySet:
    """Return the public signature keys of a JWKS. Raise ValueError where there are none."""
    usable: list[RSAKey | ECKey | OKPKey] = []
    entries = document.get("keys")
    for entry in cast("list[Any]", entries) if isinstance(entries, list) else []:
        if not isinstance(entry, dict) or cast("dict[str, Any]", entry).get("use") == "enc":
            continue
        known = KEY_TYPES.get(str(cast("dict[str, Any]", entry).get("kty")))
        if known is not None:
            usable.append(known.import_key(cast("Any", entry)))
    if not usable:
        raise ValueError("no key that could verify a signature")
    return KeySet(cast("Any", usable))


def read_external_identity(
    issuer: str, claims: Mapping[str, Any], *, user: Mapping[str, Any] | None = None
) -> ExternalIdentity:
    """Return the user that the claims describe. `user` are claims of the userinfo endpoint. An
    e-mail that the issuer has not verified is left out."""
    given = {**claims, **(user or {})}
    email = given.get("email")
    verified = given.get("email_verified")
    # Some issuers, such as Clerk, send the text.
    is_verified = verified is True or verified == "true"
    name = given.get("name")
    return ExternalIdentity(
        issuer=issuer,
        subject=claims["sub"],
        email=email if isinstance(email, str) and is_verified else None,
        name=name[:200] if isinstance(name, str) else "",
    )


def _read_header(token: str) -> Mapping[str, Any]:
    if len(token) > TOKEN_CHARACTERS_MAX or not token.isascii():
        raise InvalidTokenError(NOT_ACCEPTED)
    try:
        header = jws.extract_compact(token.encode()).headers()
    except (JoseError, ValueError, binascii.Error) as error:
        raise InvalidTokenError(NOT_ACCEPTED) from error
    # Checked before any key is fetched, so that a forged header causes no request.
    if header.get("alg") not in ALGORITHMS:
        raise InvalidTokenError(NOT_ACCEPTED)
    return header


def _has_audience(claims: Mapping[str, Any], audiences: Sequence[str]) -> bool:
    """Check `aud`, or `azp` for a token without an audience."""
    audience = claims.get("aud")
    if audience is None:
        return claims.get("azp") in audiences
    named = cast("list[Any]", audience) if isinstance(audience, list) else [audience]
    return any(each in audiences for each in named if isinstance(each, str))


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _list_ids(keys: KeySet) -> set[str | None]:
    return {key.kid for key in keys.keys}
