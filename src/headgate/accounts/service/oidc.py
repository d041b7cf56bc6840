"""Sign-in by OpenID Connect: authorization code flow with PKCE (RFC 7636, RFC 9700).

State, nonce and verifier are derived from one random token that only this browser has, in a cookie
of ten minutes. So an unfinished sign-in stores nothing on the server, and a callback that another
browser started is refused.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import urllib.parse

import msgspec

from headgate.accounts.model import ExternalIdentity, SignInFailedError
from headgate.accounts.service.issuer import Issuer, read_external_identity
from headgate.accounts.service.tokens import derive_token, make_token
from headgate.kit.clock import Clock
from headgate.kit.http.message import Headers

FLOW_SECONDS = 600.0
NOT_STARTED_HERE = "This sign-in was not started in this browser, or took too long. Start again."


class OidcClient(msgspec.Struct, frozen=True):
    client_id: str
    client_secret: str | None
    scopes: str
    redirect_url: str

    def __repr__(self) -> str:
        return f"OidcClient({self.client_id})"


class OidcLogin:
    """Send people to the issuer, and read the identity with which they come back."""

    def __init__(self, issuer: Issuer, client: OidcClient, clock: Clock) -> None:
        self._issuer = issuer
        self._client = client
        self._clock = clock

    def start_flow(self) -> str:
        """Return the token that the browser keeps in its cookie during the sign-in."""
        return f"{int(self._clock.now())}.{make_token()}"

    async def build_authorization_url(self, flow: str) -> str:
        """Return the URL to which the browser is redirected. Raise `IssuerUnreachableError`."""
        address = await self._issuer.find_endpoint("authorization_endpoint")
        challenge = hashlib.sha256(derive_token(flow, "oidc_verifier").encode()).digest()
        query = {
            "response_type": "code",
            "client_id": self._client.client_id,
            "redirect_uri": self._client.redirect_url,
            "scope": self._client.scopes,
            "state": derive_token(flow, "oidc_state"),
            "nonce": derive_token(flow, "oidc_nonce"),
            "code_challenge": base64.urlsafe_b64encode(challenge).rstrip(b"=").decode(),
            "code_challenge_method": "S256",
        }
        return f"{address}{'&' if '?' in address else '?'}{urllib.parse.urlencode(query)}"

    def check_state(self, flow: str, state: str, issuer: str | None) -> None:
        """Raise `SignInFailedError` unless this browser started this sign-in within ten minutes."""
        at = flow.partition(".")[0]
        # `iss` shows that another issuer's answer was mixed in (RFC 9207); older issuers omit it.
        is_known = hmac.compare_digest(derive_token(flow, "oidc_state").encode(), state.encode())
        is_fresh = at.isdigit() and 0 <= self._clock.now() - int(at) <= FLOW_SECONDS
        if not is_known or not is_fresh or issuer not in (None, self._issuer.url):
            raise SignInFailedError(NOT_STARTED_HERE)

    async def exchange_code(self, flow: str, code: str) -> ExternalIdentity:
        """Exchange the authorization code for the identity. Raise `IssuerUnreachableError`,
        `InvalidTokenError` and `IssuerKeysUnavailableError`."""
        client = self._client
        address = await self._issuer.find_endpoint("token_endpoint")
        fields = {
            "grant_type": "authorization_code",
            "code": code,
            "redirect_uri": client.redirect_url,
            "code_verifier": derive_token(flow, "oidc_verifier"),
            "client_id": client.client_id,
        }
        headers: Headers = [(b"content-type", b"application/x-www-form-urlencoded")]
        if client.client_secret is not None:
            headers.append((b"authorization", _encode_basic(client)))
        body = urllib.parse.urlencode(fields).encode()
        answer = await self._issuer.fetch("POST", address, headers=headers, body=body)
        token = str(answer.get("id_token", ""))
        claims = await self._issuer.verify(
            token, audiences=(client.client_id,), nonce=derive_token(flow, "oidc_nonce")
        )
        # A token for several audiences names in `azp` the client that requested it.
        if claims.get("azp", client.client_id) != client.client_id:
            raise SignInFailedError(NOT_STARTED_HERE)
        external = read_external_identity(self._issuer.url, claims)
        access_token = answer.get("access_token")
        if "email" in claims or not isinstance(access_token, str):
            return external
        # Some issuers return the e-mail only here (OpenID Connect Core 5.4).
        address = await self._issuer.find_endpoint("userinfo_endpoint")
        bearer = (b"authorization", b"Bearer " + access_token.encode("utf-8", "replace"))
        user = await self._issuer.fetch("GET", address, headers=[bearer])
        # Otherwise the e-mail of another user could be substituted (OpenID Connect Core 5.3.2).
        if user.get("sub") != claims["sub"]:
            raise SignInFailedError(NOT_STARTED_HERE)
        return read_external_identity(self._issuer.url, claims, user=user)


class TokenAuthenticator:
    def __init__(self, issuer: Issuer, audiences: tuple[str, ...]) -> None:
        self._issuer = issuer
        self._audiences = audiences

    async def verify(self, token: str) -> ExternalIdentity:
        """Return the identity of a token. Raise `InvalidTokenError` and
        `IssuerKeysUnavailableError`."""
        claims = await self._issuer.verify(token, audiences=self._audiences)
        return read_external_identity(self._issuer.url, claims)


def _encode_basic(client: OidcClient) -> bytes:
    """Form-encode both parts before they are joined (RFC 6749 2.3.1)."""
    parts = (client.client_id, client.client_secret or "")
    joined = ":".join(map(urllib.parse.quote_plus, parts))
    return b"Basic " + base64.b64encode(joined.encode())
