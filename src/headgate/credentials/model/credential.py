"""Credentials without their secrets, and what can be wrong with one."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.ports import OPERATOR, Deadlines

MetadataValue = str | int | float | bool | None
MANAGED_INTEGRATION = "headgate"
"""The integration whose credentials are all platform-managed ones (decision 18)."""
API_KEY = "api_key"
STREAM_USAGE_ASK = "ask"
STREAM_USAGE_NEVER = "never"
DEADLINES = Deadlines.__struct_fields__
STREAM_USAGE = (STREAM_USAGE_ASK, STREAM_USAGE_NEVER)
"""Whether the provider is asked for the usage of a stream whose client did not ask for it."""


class CredentialRecord(msgspec.Struct, frozen=True):
    """A credential without its secret. No organization: the platform's own, a managed one.

    `hint` is the secret's mask, or the reference that stands in its place; `key_id` the
    organization key under which it is sealed. `secret_header` is the header that carries it, where
    that is not the integration's own. `allowed_models` are patterns; none at all allows every
    model. `stream_usage` is one of `STREAM_USAGE`. `first_byte_seconds`, `idle_seconds` and
    `total_seconds` are deadlines of its calls, None where it sets none. `source` says which start
    of Headgate made it, empty for what people add. `version` counts the changes from 1,
    `seal_number` how often it was sealed (0: by a release that did not count). Times in unix
    seconds.
    """

    id: str
    organization_id: str | None
    integration: str
    name: str
    auth_type: str
    base_url: str
    provider_organization: str | None
    metadata: dict[str, MetadataValue]
    hint: str
    is_default: bool
    created_at: float
    updated_at: float
    key_id: str
    expires_at: float | None = None
    last_used_at: float | None = None
    description: str | None = None
    allowed_models: list[str] = []
    capacity: list[dict[str, Any]] = []
    secret_header: str | None = None
    source: str = ""
    created_by: str | None = None
    created_by_email: str | None = None
    version: int = 1
    seal_number: int = 0
    stream_usage: str = STREAM_USAGE_ASK
    first_byte_seconds: float | None = None
    idle_seconds: float | None = None
    total_seconds: float | None = None


class CredentialRequest(msgspec.Struct, frozen=True, kw_only=True):
    """What a new credential shall be. What is left out comes from the integration.

    `secret` is the secret itself, or a reference to a stored one (`model.reference`).
    """

    organization_id: str | None
    integration: str
    secret: str
    auth_type: str = "api_key"
    secret_header: str | None = None
    name: str | None = None
    base_url: str | None = None
    provider_organization: str | None = None
    metadata: Mapping[str, MetadataValue] = {}
    is_default: bool = False
    expires_at: float | None = None
    description: str | None = None
    allowed_models: Sequence[str] = ()
    capacity: Sequence[Mapping[str, Any]] = ()
    stream_usage: str = STREAM_USAGE_ASK
    first_byte_seconds: float | None = None
    idle_seconds: float | None = None
    total_seconds: float | None = None
    source: str = ""

    def __repr__(self) -> str:
        return f"CredentialRequest({self.integration}, {self.name})"


class CredentialChange(msgspec.Struct, frozen=True, kw_only=True):
    """What of a credential shall be otherwise; what is left out stays."""

    name: str | msgspec.UnsetType = msgspec.UNSET
    description: str | msgspec.UnsetType | None = msgspec.UNSET
    metadata: dict[str, MetadataValue] | msgspec.UnsetType = msgspec.UNSET
    allowed_models: list[str] | msgspec.UnsetType = msgspec.UNSET
    capacity: list[dict[str, Any]] | msgspec.UnsetType = msgspec.UNSET
    stream_usage: str | msgspec.UnsetType = msgspec.UNSET
    first_byte_seconds: float | msgspec.UnsetType | None = msgspec.UNSET
    idle_seconds: float | msgspec.UnsetType | None = msgspec.UNSET
    total_seconds: float | msgspec.UnsetType | None = msgspec.UNSET
    provider_organization: str | msgspec.UnsetType | None = msgspec.UNSET


class CredentialNotFoundError(HeadgateError):
    """There is no credential of this id or name.

    List the credentials with `headgate credentials list` or `GET /api/credentials`.
    """

    kind = Kind.MISSING
    code = "not_found"


class NoCredentialError(HeadgateError):
    """The organization has no credential for the integration that the call needs.

    Add one with `headgate credentials add` or `POST /api/credentials`.
    """

    kind = Kind.INVALID
    code = "credential_missing"


class UnusableCredentialError(HeadgateError):
    """The credential that the call names cannot be used; the gateway does not take another one
    instead.

    Repair or enable that credential, or name another one.
    """

    kind = Kind.INVALID
    code = "credential_unusable"


def find_purpose(credential: CredentialRecord | CredentialRequest) -> str:
    """The egress rule under which a credential is sent: what the platform owns, and what a start of
    Headgate made, may go where the operator has configured it; what people add may not."""
    is_operators = credential.organization_id is None or credential.source
    return OPERATOR if is_operators else ""
