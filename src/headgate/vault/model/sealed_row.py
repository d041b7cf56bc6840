"""The rows that hold a sealed secret, whatever their table."""

from __future__ import annotations

from typing import Protocol

import msgspec


class SealedCredential(Protocol):
    """What the seal of a credential is bound to; `base_url` by its origin."""

    @property
    def id(self) -> str: ...
    @property
    def organization_id(self) -> str | None: ...
    @property
    def base_url(self) -> str: ...
    @property
    def key_id(self) -> str: ...
    @property
    def seal_number(self) -> int: ...


class CredentialRow(msgspec.Struct, frozen=True):
    """A `SealedCredential` as its row has it."""

    id: str
    organization_id: str | None
    base_url: str
    key_id: str
    seal_number: int


class UnreadableRow(msgspec.Struct, frozen=True):
    """A stored credential, or a row of another sealed `table`, that cannot be used, and why."""

    credential_id: str
    name: str
    reason: str
    table: str = "credentials"
