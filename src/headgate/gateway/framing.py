"""Refuse requests that the parser accepts and another HTTP reader could read differently.

Every request that RFC 9112 leaves room to read in two ways is refused and its connection closed
(11.2), so that nobody in front can be made to take one request for two. All functions are pure.
`WATCHED_HEADERS` is looked up for every header; the functions run only for what is unusual.
"""

from __future__ import annotations

import re

from headgate.gateway.limits import (
    MalformedRequestError,
    UnsupportedConnectMethodError,
    UnsupportedExpectationError,
    UnsupportedWebSocketError,
)
from headgate.kit.errors import HeadgateError
from headgate.kit.http.message import Headers

LINE_ENDS = {"1.1": b" HTTP/1.1\r\n", "1.0": b" HTTP/1.0\r\n"}
"""How the request line of each supported version ends."""
NO_VALUES: frozenset[bytes] = frozenset()
WATCHED_HEADERS = {
    b"host": NO_VALUES,
    b"transfer-encoding": NO_VALUES,
    b"transfer_encoding": NO_VALUES,
    b"content_length": NO_VALUES,
    b"connection": frozenset((b"keep-alive", b"close", b"Keep-Alive", b"Close")),
    b"expect": frozenset((b"100-continue",)),
}
"""Headers to inspect, each with the values that need no inspection."""
FRAMING_HEADERS = frozenset(
    (
        b"api-key",
        b"authorization",
        b"connection",
        b"content-encoding",
        b"content-length",
        b"content-type",
        b"expect",
        b"host",
        b"transfer-encoding",
        b"upgrade",
        b"x-api-key",
    )
)
"""Headers that a trailer must not add, nor a Connection header remove (RFC 9110 6.5.1, 7.6.1)."""
BODILESS_METHODS = frozenset((b"GET", b"HEAD", b"CONNECT", b"TRACE"))
NEVER_HOP_BY_HOP = FRAMING_HEADERS - {b"connection", b"upgrade"}
UPGRADE_HEADERS = frozenset((b"upgrade", b"http2-settings"))
"""Headers that offer another protocol (RFC 9110 7.8, RFC 7540 3.2.1)."""

_ABSOLUTE = re.compile(rb"https?://(?P<authority>[^/?#]+)(?P<rest>[/?][^#]*)?", re.IGNORECASE)


def check_line(raw: bytes, line: bytes | None, *, starts: bool) -> HeadgateError | None:
    """Check that the request line stands in the bytes exactly as it was parsed.

    `line` is None for an unsupported version. `starts` says whether the request is the first in the
    bytes. Empty lines before it are allowed.
    """
    if line is None:
        return MalformedRequestError("Only HTTP/1.1 and HTTP/1.0 are supported.")
    if raw.lstrip(b"\r\n").startswith(line) if starts else line in raw:
        return None
    return MalformedRequestError(
        "The request line is not a method, a target and a version with one space between them."
    )


def check_coding(watched: Headers, *, is_old: bool) -> HeadgateError | None:
    """Check the watched headers, all but Host."""
    codings = [value.lower() for name, value in watched if name == b"transfer-encoding"]
    if codings and (is_old or codings != [b"chunked"]):
        return MalformedRequestError(
            "The only supported transfer coding is `chunked`, once, and on HTTP/1.1."
        )
    for name, value in watched:
        # CGI turns dashes into underscores, so some readers take this for the name with a dash.
        if b"_" in name:
            return MalformedRequestError(
                f"{name.decode()} is not accepted as a header name; use a dash."
            )
        if name == b"connection" and not NEVER_HOP_BY_HOP.isdisjoint(list_tokens(value)):
            return MalformedRequestError("The Connection header names one that it must not remove.")
        if name == b"expect" and value.lower() != b"100-continue":
            return UnsupportedExpectationError(
                "The only expectation that can be met is 100-continue."
            )
    return None


def check_bodiless(method: bytes, headers: Headers) -> HeadgateError | None:
    """Refuse a body where another reader may expect none."""
    if method in BODILESS_METHODS:
        for name, value in headers:
            if name == b"transfer-encoding" or (
                name == b"content-length" and value.strip(b"0 \t") != b""
            ):
                return MalformedRequestError(f"A {method.decode()} request must not have a body.")
    return None


def check_upgrade(method: bytes, version: str, headers: Headers) -> HeadgateError | None:
    """Refuse CONNECT and WebSocket; other offers to upgrade may be ignored (RFC 9110 7.8)."""
    if method == b"CONNECT":
        return UnsupportedConnectMethodError(
            "This server is not a proxy: CONNECT is not supported.", should_retry=False
        )
    if method != b"GET" or version == "1.0":
        return None
    if any(name == b"upgrade" and b"websocket" in list_tokens(value) for name, value in headers):
        return UnsupportedWebSocketError(
            "WebSocket is not supported here. Send the same request over HTTP: POST, with "
            '"stream": true for events as they come.',
            should_retry=False,
        )
    return None


def render_without_upgrade(method: bytes, target: bytes, version: str, headers: Headers) -> bytes:
    """Return the head without the headers that offer another protocol."""
    lines = [b"%b %b HTTP/%b" % (method, target, version.encode())]
    lines += [b"%b: %b" % header for header in headers if header[0] not in UPGRADE_HEADERS]
    return b"\r\n".join([*lines, b"", b""])


def check_trailer(name: bytes) -> HeadgateError | None:
    if name.lower().replace(b"_", b"-") in FRAMING_HEADERS:
        return MalformedRequestError(f"{name.decode('latin-1')} cannot be a trailer.")
    return None


def read_target(method: bytes, target: bytes, watched: Headers) -> bytes | HeadgateError:
    """Return the path and query of a target that does not begin with a slash, or has a fragment. An
    absolute URL (RFC 9112 3.2.2) is accepted for the host that the Host header names."""
    if target == b"*" and method == b"OPTIONS":
        return target
    found = _ABSOLUTE.fullmatch(target)
    if found is None:
        return MalformedRequestError("The request target is neither a path nor an http URL.")
    hosts = [value.lower() for name, value in watched if name == b"host"]
    if hosts != [found["authority"].lower()]:
        return MalformedRequestError("The request target and the Host header name different hosts.")
    rest = found["rest"] or b"/"
    return rest if rest.startswith(b"/") else b"/" + rest


def list_tokens(value: bytes) -> list[bytes]:
    return [token.strip(b" \t").lower() for token in value.split(b",")]


def count_bytes(headers: Headers) -> int:
    return sum(len(name) + len(value) + 4 for name, value in headers)
