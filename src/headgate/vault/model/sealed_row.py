"""Rows that hold a sealed secret, in any table."""

from __future__ import annotations

from typing import Protocol

import msgspec


class SealedCredential(Protocol):
    """Describe the fields of a credential that its seal is bound to; of `base_url` the origin."""

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
    id: str
    organization_id: str | None
    base_url: str
    key_id: str
    seal_number: int


class WebhookSecretRow(msgspec.Struct, frozen=True):
    """Hold the fields of a webhook's secret that its seal is bound to."""

    id: str
    organization_id: str
    endpoint_id: str
    key_id: str
    seal_number: int


class SigningSecretRow(msgspec.Struct, frozen=True):
    """Hold the fields of an API key's signing secret that its seal is bound to."""

    id: str
    organization_id: str
    api_key_id: str
    key_id: str
    seal_number: int


class PayloadRow(msgspec.Struct, frozen=True):
    """Hold the fields of the kept bodies of a request that their seal is bound to."""

    id: str
    organization_id: str
    key_id: str
    seal_number: int


class McpSecretRow(msgspec.Struct, frozen=True):
    """Hold the fields of an MCP server's headers, or of a person's token for it, that their seal is
    bound to; `origin` is the only one that they may be sent to."""

    id: str
    organization_id: str
    server_id: str
    person_id: str
    origin: str
    key_id: str
    seal_number: int


class UnreadableRow(msgspec.Struct, frozen=True):
    """Describe a row of a sealed table that does not open, with the reason."""

    credential_id: str
    name: str
    reason: str
    table: str = "credentials"
