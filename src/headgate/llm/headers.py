"""Name the request headers that are not forwarded to a provider."""

from __future__ import annotations

import msgspec

HOP_BY_HOP = frozenset(
    {
        b"accept-encoding",
        b"connection",
        b"content-length",
        b"expect",
        b"host",
        b"http2-settings",
        b"keep-alive",
        b"max-forwards",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
"""Headers of one connection (RFC 9110 7.6.1), and those that the egress client sets."""
CREDENTIALS = frozenset(
    {
        b"api-key",
        b"authorization",
        b"cf-aig-authorization",
        b"cookie",
        b"cookie2",
        b"ocp-apim-subscription-key",
        b"private-token",
        b"set-cookie",
        b"x-amz-security-token",
        b"x-api-key",
        b"x-auth-token",
        b"x-goog-api-key",
    }
)
AUTHENTICATING_PROXIES = frozenset(
    {
        b"client-cert",
        b"client-cert-chain",
        b"remote-user",
        b"x-access-token",
        b"x-client-cert",
        b"x-csrf-token",
        b"x-id-token",
        b"x-remote-user",
        b"x-serverless-authorization",
        b"x-xsrf-token",
    }
)
AUTHENTICATING_PROXIES_PREFIXES = (
    b"cf-access-",
    b"tailscale-user-",
    b"x-amzn-oidc-",
    b"x-auth-request-",
    b"x-goog-authenticated-user-",
    b"x-goog-iap-",
    b"x-ms-client-principal",
    b"x-ms-token-",
    b"x-pomerium-",
    b"x-ssl-client-",
)
"""How authenticating proxies name the user to this server, often with a token of the user."""
OVERRIDES = frozenset(
    {b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-rewrite-url"}
)
"""Headers that change the method or path of the request that was allowed."""
BROWSER = frozenset({b"origin"})
"""Meant by a browser for this server: CORS ends here."""
FORWARDING = frozenset(
    {
        b"cdn-loop",
        b"cf-connecting-ip",
        b"cf-connecting-ipv6",
        b"cf-ew-via",
        b"cf-ipcountry",
        b"cf-pseudo-ipv4",
        b"cf-ray",
        b"cf-visitor",
        b"cf-worker",
        b"client-ip",
        b"fastly-client-ip",
        b"fly-client-ip",
        b"forwarded",
        b"true-client-ip",
        b"via",
        b"x-appengine-user-ip",
        b"x-azure-clientip",
        b"x-azure-socketip",
        b"x-client-ip",
        b"x-cluster-client-ip",
        b"x-envoy-external-address",
        b"x-real-ip",
    }
)
"""How proxies in front describe the client's address and the route."""
FORWARDING_PREFIXES = (b"x-forwarded", b"x-original-", b"x-vercel-ip-")
PRIVATE_PREFIXES = (b"access-control-", b"proxy-", b"sec-", b"x-headgate-", b"x-vmx-")
ACCOUNT = frozenset({b"openai-organization", b"openai-project", b"x-goog-user-project"})
"""Headers that choose the account that pays, among those of one provider key."""


class HeaderDenylist(msgspec.Struct, frozen=True):
    """Name the headers that may not pass; every other one does.

    A name with an underscore never passes: servers that read it as a dash would take it for a
    denied one.
    """

    names: frozenset[bytes]
    prefixes: tuple[bytes, ...]

    def denies(self, name: bytes) -> bool:
        return name in self.names or name.startswith(self.prefixes) or b"_" in name


DENIED = HeaderDenylist(
    HOP_BY_HOP | CREDENTIALS | AUTHENTICATING_PROXIES | OVERRIDES | BROWSER | FORWARDING,
    (*AUTHENTICATING_PROXIES_PREFIXES, *FORWARDING_PREFIXES, *PRIVATE_PREFIXES),
)
"""The rule for every provider (decision 0020)."""
