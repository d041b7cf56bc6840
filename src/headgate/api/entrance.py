"""What people come in by: passwords, other issuers, cookies."""

from __future__ import annotations

from typing import Protocol

import msgspec

from headgate.accounts.model import Vouched
from headgate.accounts.service import Flood, Hasher, Recognition
from headgate.api.cookies import Cookies
from headgate.api.identity import Identity


class Oidc(Protocol):
    """Signing in at a configured OpenID Connect issuer."""

    def make_flow(self) -> str:
        """What the browser keeps while its person is away."""
        ...

    async def build_address(self, flow: str) -> str:
        """Where the browser goes."""
        ...

    def check_state(self, flow: str, state: str, issuer: str | None) -> None:
        """Raise `SignInRefused` unless this browser was sent for this answer, just now."""
        ...

    async def exchange(self, flow: str, code: str) -> Vouched:
        """Who came back."""
        ...


class Entrance(msgspec.Struct, frozen=True, kw_only=True):
    """The ways in. `public_url` has no slash at its end; None where it was not said."""

    hasher: Hasher
    flood: Flood
    cookies: Cookies
    recognition: Recognition
    identity: Identity
    oidc: Oidc | None = None
    public_url: str | None = None
