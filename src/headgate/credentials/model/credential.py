"""Credentials without their secrets: records, requests, and the errors about them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.ports import OPERATOR, Deadlines

MetadataValue = str | int | float | bool | None
MANAGED_INTEGRATION = "headgate"
"""The name under which calls ask for any credential of the platform, whatever its integration."""
API_KEY = "api_key"
STREAM_USAGE_ASK = "ask"
STREAM_USAGE_NEVER = "never"
DEADLINES = Deadlines.__struct_fields__
STREAM_USAGE = (STREAM_USAGE_ASK, STREAM_USAGE_NEVER)
"""Whether Headgate asks the provider for the usage of streams whose client did not ask."""


class CredentialRecord(msgspec.Struct, frozen=True):
    """Hold a credential without its secret. No organization: it belongs to the platform (managed).

    `hint` is the masked secret, or the reference that replaces it; `key_id` is the organization key
    that seals it. `secret_header` carries the secret, None for the integration's own header.
    `allowed_models` are patterns; an empty list allows every model. `stream_usage` is one of
    `STREAM_USAGE`. `first_byte_seconds`, `idle_seconds` and `total_seconds` are deadlines of its
    calls; None sets none. `source` names the start of Headgate that created it, empty for
    credentials that people add. `version` counts changes from 1; `seal_number` counts seals (0:
    sealed by a release that did not count). Times are in unix seconds.
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
    """Describe a new credential. The integration supplies what is left out. `secret` is the secret
    itself, or a reference to a stored secret (`{{vault:name}}`)."""

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
    """Describe a partial update of a credential. Unset fields stay as they are."""

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
    """Return the egress purpose of a credential's calls.

    The operator's own credentials (of the platform, or created by a start of Headgate) may go to
    addresses that are configured for them; credentials that people add may not.
    """
    is_operators = credential.organization_id is None or credential.source
    return OPERATOR if is_operators else ""
