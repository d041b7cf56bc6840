"""Check the Origin header of requests to `/mcp`: pages of other sites get 403.

The Host header is checked by the edge for every request (`gateway/hosts.py`), so a name that the
author of a page owns never arrives here, and an origin with the host of its request is one of ours.
"""

from __future__ import annotations

from collections.abc import Collection

from headgate.mcp.errors import AgentOriginError

ANY_ORIGIN = "*"


class OriginCheck:
    """Let requests pass that no browser sent, and those of pages that the operator listed."""

    def __init__(self, origins: Collection[str], public_url: str | None) -> None:
        """Take the origins of HEADGATE_CORS_ORIGINS; `*` allows any."""
        self._any = ANY_ORIGIN in origins
        own = () if public_url is None else (public_url,)
        # People write addresses with a slash at the end, and origins have none.
        self._origins = frozenset(each.lower().rstrip("/") for each in (*origins, *own))

    def check(self, origins: list[str], host: str) -> None:
        """Raise `AgentOriginError`. `origins` are all values of the header."""
        if not origins or self._any:
            return
        [origin, *others] = (each.lower() for each in origins)
        if not others and (origin in self._origins or is_same_host(origin, host)):
            return
        raise AgentOriginError(
            "A web page of another origin sent this request. If that page is yours, list its "
            "origin in HEADGATE_CORS_ORIGINS."
        )


def is_same_host(origin: str, host: str) -> bool:
    scheme, mark, named = origin.partition("://")
    return bool(mark) and scheme in ("http", "https") and bool(named) and named == host.lower()
