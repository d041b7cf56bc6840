"""The bytes of a request's head, and what a response's head says about its body."""

from __future__ import annotations

from operator import itemgetter

from headgate.kit.http.message import Headers, Origin, Request

PORTS = {"http": 80, "https": 443}
RESERVED = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection"))
BODILESS = frozenset((b"GET", b"HEAD", b"DELETE", b"OPTIONS"))
NAME_BYTES = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"

_first = itemgetter(0)
_join_field = b": ".join


def render_authority(origin: Origin) -> bytes:
    """The end of a request line and the host field of an origin, without a default port.

    Raises ValueError for a scheme other than http and https.
    """
    if origin.scheme not in PORTS:
        raise ValueError(f"Unknown scheme {origin.scheme!r}.")
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    port = "" if origin.port == PORTS[origin.scheme] else f":{origin.port}"
    return f" HTTP/1.1\r\nhost: {host}{port}".encode("ascii")


def render_head(request: Request, authority: bytes) -> bytes:
    """The head of a request, ready to be sent.

    Raises ValueError for anything that could break out of its line or contradict the framing.
    """
    headers = request.headers
    names = [*map(_first, headers)]
    if b"".join(names).translate(None, NAME_BYTES) or not RESERVED.isdisjoint(names):
        raise ValueError("A header name is not a lower-case token, or is set by the client.")
    if not request.method.isalpha() or request.target[:1] != b"/" or b" " in request.target:
        raise ValueError("The method is not a word, or the target is not a path without spaces.")
    framing = _render_framing(request)
    head = b"\r\n".join(
        [request.method + b" " + request.target + authority, *map(_join_field, headers), framing]
    )
    lines = len(names) + 2 + framing.count(b"\n")
    # The line breaks are counted once instead of being looked for in every value.
    if head.count(b"\n") != lines or head.count(b"\r") != lines or b"\0" in head:
        raise ValueError("The target or a header value holds a line break or a NUL.")
    return head


def _render_framing(request: Request) -> bytes:
    body = request.body
    if isinstance(body, bytes):
        if body or request.method not in BODILESS:
            return b"content-length: %d\r\n\r\n" % len(body)
        return b"\r\n"
    if request.content_length is None:
        return b"transfer-encoding: chunked\r\n\r\n"
    return b"content-length: %d\r\n\r\n" % request.content_length


def ends_with_connection(headers: Headers) -> bool:
    """Whether a response's body has no length of its own and lasts until the peer closes."""
    coding = b""
    for name, value in headers:
        if name == b"content-length":
            return False
        if name == b"transfer-encoding":
            coding = value
    return not coding.lower().endswith(b"chunked")
