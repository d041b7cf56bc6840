"""The addresses of the authorization server, and the challenge that leads a client to it.

The base URL is the one of `HEADGATE_PUBLIC_URL`, or else that by which the client reached this
server. It has no trailing slash, and it is the issuer byte for byte (RFC 8414, RFC 9207).
"""

from __future__ import annotations

from collections.abc import Iterable

from headgate.kit.http.base_url import build_base_url
from headgate.kit.http.message import Headers
from headgate.oauth.model.scope import DEFAULT_SCOPES, SCOPES, format_scopes

MCP_PATH = "/mcp"
RESOURCE_METADATA_PATH = "/.well-known/oauth-protected-resource"
INVALID_TOKEN = "invalid_token"
INSUFFICIENT_SCOPE = "insufficient_scope"


def find_base_url(public_url: str | None, headers: Headers, *, scheme: str) -> str:
    """Return the base URL of a request. The edge has checked its Host header; `scheme` is that of
    the connection, and a proxy that ends TLS says so in `x-forwarded-proto`."""
    return public_url or build_base_url(headers, scheme=scheme).removesuffix("/v1")


def build_resource(base_url: str) -> str:
    """Return the resource to which access tokens are bound (RFC 8707)."""
    return base_url + MCP_PATH


def build_challenge(
    base_url: str, scopes: Iterable[str] = DEFAULT_SCOPES, error: str | None = None
) -> str:
    """Return the value of `WWW-Authenticate` (RFC 6750, RFC 9728).

    A request without a token gets no `error`; one with a token that is not accepted
    `invalid_token` and 401, one whose token may not do it `insufficient_scope` and 403, with the
    scopes that it needs.
    """
    needed = [each for each in SCOPES if each in set(scopes)]
    parts = [] if error is None else [("error", error)]
    parts.append(("scope", format_scopes(needed)))
    parts.append(("resource_metadata", f"{base_url}{RESOURCE_METADATA_PATH}{MCP_PATH}"))
    return "Bearer " + ", ".join(f'{name}="{value}"' for name, value in parts)
