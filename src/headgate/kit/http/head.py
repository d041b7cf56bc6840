"""Write the head of a request, and read what a response's head says about its body."""

from __future__ import annotations

import re

from headgate.kit.http.message import Headers, Origin, Request

PORTS = {"http": 80, "https": 443}
RESERVED = frozenset((b"host", b"content-length", b"transfer-encoding", b"connection"))
BODILESS = frozenset((b"GET", b"HEAD", b"DELETE", b"OPTIONS"))
NAME_BYTES = b"!#$%&'*+-.^_`|~0123456789abcdefghijklmnopqrstuvwxyz"
BREAK_BYTES = b"\r\n\0"

_KEEP_ALIVE = re.compile(rb"(?:^|[,; \t])timeout *= *\"?([0-9]{1,9})(?![0-9])", re.IGNORECASE)

KNOWN_MAX = 256
"""How many checked heads a writer caches."""


class HeadWriter:
    """Write the heads of requests to one origin.

    Requests to one origin differ in their bodies, hardly in their heads: so a head that was checked
    and joined once is cached. The cache holds secrets: call `forget` when the origin falls silent.
    """

    __slots__ = ("_authority", "_known")

    def __init__(self, origin: Origin) -> None:
        """Raise ValueError for a scheme other than http and https, and for an impossible host."""
        self._authority = _render_authority(origin)
        self._known: dict[tuple[bytes | tuple[bytes, bytes], ...], bytes] = {}

    def write(self, request: Request) -> bytes:
        """Return the head of a request as bytes. Raise ValueError for anything that could break out
        of its line or contradict the framing."""
        method = request.method
        body = request.body
        key = (method, request.target, *request.headers)
        head = self._known.get(key)
        if head is None:
            head = self._remember(key, request)
        if not isinstance(body, bytes):
            return head + _render_framing(request.content_length)
        if body or method not in BODILESS:
            return b"%bcontent-length: %d\r\n\r\n" % (head, len(body))
        return head + b"\r\n"

    def forget(self) -> None:
        self._known.clear()

    def _remember(self, key: tuple[bytes | tuple[bytes, bytes], ...], request: Request) -> bytes:
        _check_line(request.method, request.target)
        _check_fields(request.headers)
        lines = [request.method + b" " + request.target + self._authority]
        lines += [b"%b: %b" % field for field in request.headers]
        head = b"\r\n".join([*lines, b""])
        if len(self._known) >= KNOWN_MAX:
            self._known.clear()
        self._known[key] = head
        return head


def _render_authority(origin: Origin) -> bytes:
    if origin.scheme not in PORTS:
        raise ValueError(f"Unknown scheme {origin.scheme!r}.")
    host = f"[{origin.host}]" if ":" in origin.host else origin.host
    port = "" if origin.port == PORTS[origin.scheme] else f":{origin.port}"
    value = (host + port).encode("ascii")
    if not host or value.translate(None, BREAK_BYTES + b" /@") != value:
        raise ValueError(f"Impossible host {origin.host!r}.")
    return b" HTTP/1.1\r\nhost: " + value


def _render_framing(content_length: int | None) -> bytes:
    if content_length is None:
        return b"transfer-encoding: chunked\r\n\r\n"
    return b"content-length: %d\r\n\r\n" % content_length


def _check_line(method: bytes, target: bytes) -> None:
    if not method.isalpha():
        raise ValueError("The method is not a word.")
    if not target.startswith(b"/") or target.translate(None, BREAK_BYTES + b" ") != target:
        raise ValueError("The target is not a path without spaces and line breaks.")


def _check_fields(headers: Headers) -> None:
    for name, value in headers:
        if not name or name.translate(None, NAME_BYTES):
            raise ValueError("A header's name is not a token in lower case.")
        if name in RESERVED:
            raise ValueError(f"The header {name.decode()} is set by the client.")
        if value.translate(None, BREAK_BYTES) != value:
            raise ValueError(f"The header {name.decode()} holds a line break or a NUL.")


def parse_keep_alive(headers: Headers) -> float | None:
    """Return the seconds of `Keep-Alive: timeout=5, max=100`; None if absent or unreadable."""
    for name, value in headers:
        if name == b"keep-alive" and (found := _KEEP_ALIVE.search(value)):
            return float(found[1])
    return None


def ends_with_connection(headers: Headers) -> bool:
    """Return whether a response's body has no length and lasts until the peer closes."""
    coding = b""
    for name, value in headers:
        if name == b"content-length":
            return False
        if name == b"transfer-encoding":
            coding = value
    return not coding.lower().endswith(b"chunked")
