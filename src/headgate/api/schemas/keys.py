"""API keys as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.errors import InvalidFieldError
from headgate.api.schemas.budgets import Thresholds
from headgate.api.schemas.fields import Labels, Name, Timestamp, build_response, to_timestamp
from headgate.api.schemas.money import Dollars, show_dollars
from headgate.api.schemas.pages import PageQuery
from headgate.keys.model import IssuedKey, Key, KeyKind, KeyState, find_state
from headgate.keys.model.budget import THRESHOLDS
from headgate.keys.model.scope import (
    ENTRIES_MAX,
    REQUESTS_PER_MINUTE_MAX,
    TOKENS_PER_MINUTE_MAX,
)
from headgate.keys.service import OVERLAP_SECONDS_MAX
from headgate.kit.money import nano_from_dollars
from headgate.relay.capacity_limits import CapacityEntries, CapacityEntry
from headgate.relay.ports import DisconnectPolicy

NOT_OF_THE_KEY = frozenset({"kind", "project_id", "organization_id", "rate_limit_per_minute"})

Entry = Annotated[str, Meta(min_length=1, max_length=200)]
Entries = Annotated[list[Entry], Meta(max_length=ENTRIES_MAX)]
Networks = Annotated[Entries, Meta(examples=[["10.0.0.0/8", "2001:db8::/32"]])]
Requests = Annotated[int, Meta(ge=1, le=REQUESTS_PER_MINUTE_MAX)]
Tokens = Annotated[int, Meta(ge=1, le=TOKENS_PER_MINUTE_MAX)]
Description = Annotated[str, Meta(max_length=1000)]
Word = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class KeyQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select API keys. `search` matches any part of the name."""

    state: KeyState | None = None
    kind: KeyKind | None = None
    project_id: Word | None = None
    search: Word | None = None
    include_revoked: bool = True


class KeyCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new API key. Without `project_id` it belongs to the project of the management key that
    creates it, or else to the oldest project. `rate_limit_per_minute` is another name for
    `requests_per_minute`; `organization_id` may repeat the header's value."""

    name: Name
    kind: KeyKind = KeyKind.LIVE
    project_id: Word | None = None
    description: Description = ""
    labels: Labels = {}
    expires_at: Timestamp | None = None
    models: Entries = []
    endpoints: Entries = []
    projects: Entries = []
    networks: Networks = []
    resources: Entries = []
    tools: Entries = []
    permissions: Entries = []
    requests_per_minute: Requests | None = None
    tokens_per_minute: Tokens | None = None
    monthly_budget: Dollars | None = None
    budget_managed_only: bool = False
    budget_thresholds: Thresholds = THRESHOLDS
    requires_signature: bool = False
    on_disconnect: DisconnectPolicy | None = None
    capacity: CapacityEntries = []
    enforce_capacity: bool = True
    rate_limit_per_minute: Requests | UnsetType = UNSET
    organization_id: Word | UnsetType = UNSET


class KeyUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A partial update; fields that are missing stay the same, and null removes a limit."""

    name: Name | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET
    expires_at: Timestamp | UnsetType | None = UNSET
    models: Entries | UnsetType = UNSET
    endpoints: Entries | UnsetType = UNSET
    projects: Entries | UnsetType = UNSET
    networks: Networks | UnsetType = UNSET
    resources: Entries | UnsetType = UNSET
    tools: Entries | UnsetType = UNSET
    permissions: Entries | UnsetType = UNSET
    requests_per_minute: Requests | UnsetType | None = UNSET
    tokens_per_minute: Tokens | UnsetType | None = UNSET
    monthly_budget: Dollars | UnsetType | None = UNSET
    budget_managed_only: bool | UnsetType = UNSET
    budget_thresholds: Thresholds | UnsetType = UNSET
    requires_signature: bool | UnsetType = UNSET
    on_disconnect: DisconnectPolicy | UnsetType | None = UNSET
    capacity: CapacityEntries | UnsetType = UNSET
    enforce_capacity: bool | UnsetType = UNSET
    rate_limit_per_minute: Requests | UnsetType = UNSET


class KeyRotationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long the current token stays valid next to the new one."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=OVERLAP_SECONDS_MAX)] = 0


class KeyBudget(msgspec.Struct):
    """A limit in US dollars per calendar month. `GET /api/budgets/keys/{key_id}` tells what is used
    of it."""

    limit: str
    managed_only: bool
    thresholds: list[int]
    enforced: bool


class KeyResponse(msgspec.Struct, kw_only=True):
    """An API key without its token. `key_hint` is the part of the token that may be shown."""

    id: str
    kind: KeyKind
    name: str
    description: str
    labels: dict[str, str]
    organization_id: str
    project_id: str
    key_hint: str
    masked_key: str
    state: KeyState
    is_active: bool
    is_expired: bool
    models: list[str]
    endpoints: list[str]
    projects: list[str]
    networks: list[str]
    resources: list[str]
    tools: list[str]
    permissions: list[str]
    requests_per_minute: int | None
    rate_limit_per_minute: int | UnsetType = UNSET
    tokens_per_minute: int | None
    monthly_budget: KeyBudget | None
    requires_signature: bool
    on_disconnect: DisconnectPolicy | None
    capacity: list[CapacityEntry]
    enforce_capacity: bool
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    disabled_at: datetime.datetime | None
    revoked_at: datetime.datetime | None
    last_used_at: datetime.datetime | None
    rotated_at: datetime.datetime | None
    previous_expires_at: datetime.datetime | None
    version: int


class IssuedKeyResponse(KeyResponse, kw_only=True):
    """An API key with its token in `key`. Token and signing secret are shown only here; a key that
    is created with `requires_signature` gets a signing secret."""

    key: str
    signing_secret: str | UnsetType = UNSET


class SigningSecretRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long requests may be signed with the former secret, too."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=OVERLAP_SECONDS_MAX)] = 0


class IssuedSigningSecret(msgspec.Struct):
    """A new signing secret of an API key. The secret is shown only here."""

    key_id: str
    signing_secret: str
    created_at: datetime.datetime
    previous_expires_at: datetime.datetime | None


class SigningSecretResponse(msgspec.Struct):
    """The state of the signing secret of an API key, without the secret."""

    key_id: str
    created_at: datetime.datetime
    previous_expires_at: datetime.datetime | None


class KeyPage(msgspec.Struct):
    """A page of API keys, newest first. `max_keys` is how many keys that are not revoked the
    organization can have."""

    keys: list[KeyResponse]
    total: int
    max_keys: int
    limit: int
    offset: int


def read_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of a body as `Key` has them. Raise `InvalidFieldError` if two names of one
    field have different values."""
    fields = {name: value for name, value in given.items() if name not in NOT_OF_THE_KEY}
    rate = given.get("rate_limit_per_minute", UNSET)
    if rate is not UNSET:
        if fields.get("requests_per_minute") not in (None, rate):
            message = "It is another name for requests_per_minute, which has another value."
            raise InvalidFieldError(message, ("body", "rate_limit_per_minute"))
        fields["requests_per_minute"] = rate
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = tuple(value)  # pyright: ignore[reportUnknownArgumentType]
    for name in ("requests_per_minute", "tokens_per_minute"):
        if name in fields:
            fields[name] = fields[name] or 0
    if "expires_at" in fields:
        fields["expires_at"] = to_timestamp(fields["expires_at"])
    if "monthly_budget" in fields:
        dollars = fields.pop("monthly_budget")
        fields["monthly_budget_nano"] = None if dollars is None else nano_from_dollars(dollars)
    return fields


def to_issued_key_response(
    issued: IssuedKey, now: float, *, signing_secret: str | UnsetType = UNSET
) -> IssuedKeyResponse:
    response = msgspec.structs.asdict(to_key_response(issued.key, now))
    return IssuedKeyResponse(key=issued.token, signing_secret=signing_secret, **response)


def to_key_response(key: Key, now: float) -> KeyResponse:
    hint = f"hg_{key.kind.value}_{key.id.removeprefix('key_')}"
    state = find_state(key, now)
    return build_response(
        KeyResponse,
        key,
        kind=key.kind,
        key_hint=hint,
        masked_key=f"{hint}_…",
        state=state,
        is_active=state is KeyState.ACTIVE,
        is_expired=key.expires_at is not None and key.expires_at <= now,
        requests_per_minute=key.requests_per_minute or None,
        rate_limit_per_minute=key.requests_per_minute or UNSET,
        tokens_per_minute=key.tokens_per_minute or None,
        monthly_budget=to_key_budget(key),
        on_disconnect=key.on_disconnect,
    )


def to_key_budget(key: Key) -> KeyBudget | None:
    if key.monthly_budget_nano is None:
        return None
    return KeyBudget(
        show_dollars(key.monthly_budget_nano),
        managed_only=key.budget_managed_only,
        thresholds=list(key.budget_thresholds),
        enforced=True,
    )
