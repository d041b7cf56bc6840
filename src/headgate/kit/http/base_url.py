"""Derive the base URL to show to a client from its own request."""

from __future__ import annotations

from headgate.kit.http.message import Headers


def build_base_url(headers: Headers, *, scheme: str) -> str:
    """Return `http://HOST/v1` for the host that a request was sent to, in lower case.

    A proxy in front may have ended TLS. Its word on the scheme is trusted, because the result is
    only shown to the sender of the request.
    """
    found = dict(headers)
    host = found.get(b"host", b"").decode("ascii", "replace").lower() or "HOST"
    if found.get(b"x-forwarded-proto") == b"https":
        scheme = "https"
    return f"{scheme}://{host}/v1"
