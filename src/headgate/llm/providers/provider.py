"""Describe a provider's API: facts, never behaviour."""

from __future__ import annotations

import msgspec

from headgate.llm.endpoint import Endpoint
from headgate.llm.headers import HeaderDenylist

Headers = list[tuple[bytes, bytes]]
"""Names in lower case."""


REMEMBERED_NAMES_MAX = 1_000


class HeaderAllowlist(msgspec.Struct, frozen=True):
    """Name the headers that may pass; every other one is left out."""

    names: frozenset[bytes]
    prefixes: tuple[bytes, ...]
    _remembered: dict[bytes, bytes] = {}

    def allows(self, name: bytes) -> bool:
        return name in self.names or name.startswith(self.prefixes)

    def render(self, headers: Headers) -> bytes:
        """Return the lines of the headers that may pass, each with its line end."""
        lines: list[bytes] = []
        remembered = self._remembered
        for name, value in headers:
            start = remembered.get(name)
            if start is None:
                start = name + b": " if self.allows(name) else b""
                if len(remembered) < REMEMBERED_NAMES_MAX:
                    remembered[name] = start
            if start:
                lines += (start, value, b"\r\n")
        return b"".join(lines)


class Provider(msgspec.Struct, frozen=True):
    """Describe the HTTP API of a kind of provider: which headers travel, and its endpoints. Headers
    that the credential sets win over those of the client."""

    request_headers: HeaderDenylist
    response_headers: HeaderAllowlist
    endpoints: tuple[Endpoint, ...]
