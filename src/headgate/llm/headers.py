"""Which headers of a request do not go on to a provider."""

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
"""Headers of one connection (RFC 9110 7.6.1), and those that the egress client sets itself."""
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
"""By which proxies that sign people in tell this server who came, often with a token of theirs."""
OVERRIDES = frozenset(
    {b"x-http-method", b"x-http-method-override", b"x-method-override", b"x-rewrite-url"}
)
"""What makes another request of it than the one that was allowed."""
BROWSER = frozenset({b"origin"})
"""What a browser says to the server that it asked, which is this one: CORS ends here."""
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
"""What proxies in front say of the client's address and of the way."""
FORWARDING_PREFIXES = (b"x-forwarded", b"x-original-", b"x-vercel-ip-")
PRIVATE_PREFIXES = (b"access-control-", b"proxy-", b"sec-", b"x-headgate-", b"x-vmx-")
ACCOUNT = frozenset({b"openai-organization", b"openai-project", b"x-goog-user-project"})
"""What chooses, within one key, the account that pays."""


class HeaderDenylist(msgspec.Struct, frozen=True):
    """Which headers may not pass; every other one does.

    A name with an underscore never passes: servers that read it as a dash would take it for one
    that was refused.
    """

    names: frozenset[bytes]
    prefixes: tuple[bytes, ...]

    def denies(self, name: bytes) -> bool:
        """Whether a header of that name may not pass."""
        return name in self.names or name.startswith(self.prefixes) or b"_" in name


DENIED = HeaderDenylist(
    HOP_BY_HOP | CREDENTIALS | AUTHENTICATING_PROXIES | OVERRIDES | BROWSER | FORWARDING,
    (*AUTHENTICATING_PROXIES_PREFIXES, *FORWARDING_PREFIXES, *PRIVATE_PREFIXES),
)
"""The rule for every provider (design decision 25)."""
