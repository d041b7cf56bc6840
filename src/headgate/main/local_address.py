"""Where a server is reached from its own machine."""

from __future__ import annotations

from headgate.settings import Settings

ANYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}
"""Address by which a server that listens on every address is reached from its own machine."""


def find_local_url(settings: Settings) -> str:
    """Return the URL of the server on its own machine, without a trailing slash."""
    scheme = "https" if settings.ssl_certfile else "http"
    host = ANYWHERE.get(settings.host, settings.host)
    host = f"[{host}]" if ":" in host else host
    return f"{scheme}://{host}:{settings.port}"
