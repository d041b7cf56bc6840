"""Let web pages of other origins read responses (CORS; the Fetch standard, 3.3).

Keys travel in headers that a page has to know, never in cookies, so no origin may send credentials.
Without configured origins, none of this runs.
"""

from __future__ import annotations

import re
from collections.abc import Awaitable, Callable, Mapping
from typing import Any

from headgate.gateway.limits import InvalidCorsOriginError
from headgate.kit.http.message import Headers

ANY_ORIGIN = "*"
ORIGIN = re.compile(
    r"[a-z][a-z0-9+.-]*://(?:[a-z0-9._-]+|\[[0-9a-f:.]+\])(?::[0-9]{1,5})?",
)
USUAL_PORT = re.compile(r"http://.*:0*80$|https://.*:0*443$")
"""Browsers leave the default port out of an origin."""
HEADER_NAMES = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z, -]{1,4096}")
READABLE_PREFIXES = (
    *(b"/v1/", b"/api/", b"/openapi.json"),
    *(b"/mcp", b"/.well-known/", b"/oauth/"),
)
"""Paths whose responses a page may read; health and metrics are for operators alone."""
METHODS = b"GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS"
MAX_AGE_SECONDS = 600
EXPOSED = (
    *("x-request-id", "x-should-retry", "retry-after", "retry-after-ms", "etag", "content-range"),
    *("x-headgate-request-id", "x-headgate-correlation-id", "x-headgate-error-source"),
    *("x-headgate-model", "x-headgate-provider", "x-headgate-credential-id", "x-headgate-project"),
    *("x-headgate-cost", "x-headgate-wallet-debit", "x-headgate-input-tokens"),
    *(
        "x-headgate-output-tokens",
        "x-headgate-cache-status",
        "x-headgate-retries",
        "x-headgate-pricing",
        "x-headgate-conversion-losses",
    ),
    *(
        "www-authenticate",
        "x-headgate-overhead-us",
        "idempotent-replayed",
        "openai-processing-ms",
        "openai-version",
    ),
    *(
        f"{start}-{measure}-{what}"
        for start in ("x-ratelimit", "x-headgate-ratelimit")
        for measure in ("limit", "remaining", "reset")
        for what in ("requests", "tokens")
    ),
    *("x-ratelimit-limit", "x-ratelimit-remaining", "x-ratelimit-reset", "*"),
)
"""Response headers that a page may read; `*` means all others, for requests without credentials."""

Send = Callable[[Mapping[str, Any]], Awaitable[None]]
App = Callable[[Any, Any, Send], Awaitable[None]]


class CorsPolicy:
    """Allow the origins that an operator named, exactly or `*` for any.

    Raise `InvalidCorsOriginError`.
    """

    def __init__(self, origins: tuple[str, ...]) -> None:
        for origin in origins:
            if origin != ANY_ORIGIN and (
                ORIGIN.fullmatch(origin) is None or USUAL_PORT.match(origin)
            ):
                raise InvalidCorsOriginError(
                    f"HEADGATE_CORS_ORIGINS has {origin!r}, which is not an origin as browsers "
                    "send it: write a scheme and a host in lower case, a port only where it is not "
                    "the usual one, and no path (https://app.example.com), or * for any."
                )
        self._any = ANY_ORIGIN in origins
        self._origins = frozenset(each.encode() for each in origins)
        self._exposed = (b"access-control-expose-headers", ", ".join(EXPOSED).encode())

    def list_headers(self, headers: Headers) -> Headers:
        """Return the CORS headers of the response to a request with these headers."""
        if self._any:
            return [(b"access-control-allow-origin", b"*"), self._exposed]
        origin = get_header(headers, b"origin")
        vary = (b"vary", b"Origin")
        if origin not in self._origins:
            return [vary]
        return [(b"access-control-allow-origin", origin), self._exposed, vary]

    def render(self, target: bytes, headers: Headers) -> bytes:
        """Return the CORS headers as lines, none for a target that no page may read."""
        if not target.startswith(READABLE_PREFIXES):
            return b""
        return b"".join(b"%b: %b\r\n" % each for each in self.list_headers(headers))

    def allows(self, origin: bytes) -> bool:
        return self._any or origin in self._origins

    def list_preflight_headers(self, headers: Headers) -> Headers:
        asked = get_header(headers, b"access-control-request-headers")
        allowed: Headers = [
            (b"access-control-allow-origin", b"*" if self._any else get_header(headers, b"origin")),
            (b"access-control-allow-methods", METHODS),
            (b"access-control-max-age", b"%d" % MAX_AGE_SECONDS),
            (
                b"vary",
                b"Origin, Access-Control-Request-Method, Access-Control-Request-Headers",
            ),
        ]
        if HEADER_NAMES.fullmatch(asked):
            allowed.append((b"access-control-allow-headers", asked))
        return allowed


class CorsMiddleware:
    """Answer preflight requests, and add the CORS headers to all other responses."""

    def __init__(self, app: App, policy: CorsPolicy) -> None:
        self._app = app
        self._policy = policy

    async def __call__(self, scope: Any, receive: Any, send: Send) -> None:
        if scope["type"] != "http" or not scope["raw_path"].startswith(READABLE_PREFIXES):
            await self._app(scope, receive, send)
            return
        headers: Headers = scope["headers"]
        if is_preflight(scope["method"].encode(), headers):
            await self._answer_preflight(headers, send)
            return
        added = self._policy.list_headers(headers)

        async def send_on(message: Mapping[str, Any]) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], *added]}
            await send(message)

        await self._app(scope, receive, send_on)

    async def _answer_preflight(self, headers: Headers, send: Send) -> None:
        origin = get_header(headers, b"origin")
        if self._policy.allows(origin):
            status, body, response_headers = 204, b"", self._policy.list_preflight_headers(headers)
        else:
            shown = origin.decode("ascii", "backslashreplace")
            status, body = 403, f"The origin {shown} is not in HEADGATE_CORS_ORIGINS.\n".encode()
            response_headers = [
                (b"content-type", b"text/plain; charset=utf-8"),
                (b"vary", b"Origin"),
            ]
            response_headers.append((b"content-length", b"%d" % len(body)))
        await send({"type": "http.response.start", "status": status, "headers": response_headers})
        await send({"type": "http.response.body", "body": body})


def is_preflight(method: bytes, headers: Headers) -> bool:
    """Return whether a browser asks if it may send a request. A preflight carries no key."""
    names = {name for name, _ in headers}
    return method == b"OPTIONS" and {b"origin", b"access-control-request-method"} <= names


def get_header(headers: Headers, name: bytes) -> bytes:
    """Return the first value of a header, empty where there is none."""
    return next((value for key, value in headers if key == name), b"")
