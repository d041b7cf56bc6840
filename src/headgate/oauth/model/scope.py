"""The scopes of connected applications: each one includes those before it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

READ = "mcp:read"
"""See tools, integrations, models and usage."""
WRITE = "mcp:write"
"""Call tools that act or cost, and store assets."""
FULL = "mcp:full"
"""Set up and remove integrations. It includes the others."""
SCOPES = (READ, WRITE, FULL)
DEFAULT_SCOPES = (READ, WRITE)
"""What an application gets that asks for none."""


def close_scopes(scopes: Iterable[str]) -> tuple[str, ...]:
    """Return the known ones among the scopes and those that they include, in their order."""
    ranks = [SCOPES.index(each) for each in scopes if each in SCOPES]
    return SCOPES[: max(ranks) + 1] if ranks else ()


def parse_scopes(text: str) -> tuple[str, ...]:
    """Return the closed scopes of a request. Unknown ones are left out, since clients add scopes of
    OpenID Connect (`offline_access`); a request for none of ours gets the default."""
    return close_scopes(text.split()) or DEFAULT_SCOPES


def format_scopes(scopes: Sequence[str]) -> str:
    return " ".join(scopes)
