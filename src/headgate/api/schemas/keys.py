"""Keys as the API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.errors import InvalidFieldError
from headgate.api.schemas.fields import (
    Labels,
    Name,
    Timestamp,
    to_datetime,
    to_optional_datetime,
    to_timestamp,
)
from headgate.api.schemas.pages import PageQuery
from headgate.keys.model import IssuedKey, Key, KeyKind, KeyState, find_state
from headgate.keys.model.scope import (
    ENTRIES_MAX,
    REQUESTS_PER_MINUTE_MAX,
    TOKENS_PER_MINUTE_MAX,
)
from headgate.keys.service import OVERLAP_SECONDS_MAX
from headgate.kit.money import format_dollars, nano_from_dollars
from headgate.relay.ports import DisconnectPolicy

CENTS = 2
NOT_OF_THE_KEY = frozenset({"kind", "project_id", "organization_id", "rate_limit_per_minute"})

Entry = Annotated[str, Meta(min_length=1, max_length=200)]
Patterns = Annotated[
    list[Entry],
    Meta(max_length=ENTRIES_MAX, description="`*` stands for any part. Empty: no restriction."),
]
Names = Annotated[list[Entry], Meta(max_length=ENTRIES_MAX, description="Empty: no restriction.")]
Projects = Annotated[
    list[Entry],
    Meta(
        max_length=ENTRIES_MAX,
        description="Ids. For an inference key those that it may name beside its own; "
        "a management key without any is of the whole organization.",
    ),
]
Networks = Annotated[
    list[Entry],
    Meta(
        max_length=ENTRIES_MAX,
        description="Addresses or CIDR blocks, IPv4 or IPv6, from where it may be used. "
        "Empty: from anywhere.",
        examples=[["10.0.0.0/8", "2001:db8::/32"]],
    ),
]
Permissions = Annotated[
    list[Entry],
    Meta(
        max_length=ENTRIES_MAX,
        description="Of a management key, as `keys:read` or `credentials:*`. Empty: everything in "
        "its organization. `*` alone is also the operator's.",
    ),
]
Requests = Annotated[int, Meta(ge=1, le=REQUESTS_PER_MINUTE_MAX)]
Tokens = Annotated[int, Meta(ge=1, le=TOKENS_PER_MINUTE_MAX)]
Dollars = Annotated[
    str, Meta(pattern=r"^[0-9]{1,9}(\.[0-9]{1,9})?$", description="US dollars, such as `25.00`.")
]
Description = Annotated[str, Meta(max_length=1000)]
Word = Annotated[str, Meta(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")]


class KeyQuery(PageQuery, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Which keys. `search` is a part of the name."""

    state: KeyState | None = None
    kind: KeyKind | None = None
    project_id: Word | None = None
    search: Word | None = None
    include_revoked: bool = True


class KeyCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new key. Without `project_id` it is of the issuing key's project, else of the oldest.
    `rate_limit_per_minute` is another name of `requests_per_minute`; `organization_id` may repeat
    that of the header."""

    name: Name
    kind: KeyKind = KeyKind.LIVE
    project_id: Word | None = None
    description: Description = ""
    labels: Labels = {}
    expires_at: Timestamp | None = None
    models: Patterns = []
    endpoints: Patterns = []
    projects: Projects = []
    networks: Networks = []
    resources: Names = []
    permissions: Permissions = []
    requests_per_minute: Requests | None = None
    tokens_per_minute: Tokens | None = None
    monthly_budget: Dollars | None = None
    on_disconnect: DisconnectPolicy | None = None
    rate_limit_per_minute: Requests | UnsetType = UNSET
    organization_id: Word | UnsetType = UNSET


class KeyUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is given is changed; null takes a limit away."""

    name: Name | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    labels: Labels | UnsetType = UNSET
    expires_at: Timestamp | UnsetType | None = UNSET
    models: Patterns | UnsetType = UNSET
    endpoints: Patterns | UnsetType = UNSET
    projects: Projects | UnsetType = UNSET
    networks: Networks | UnsetType = UNSET
    resources: Names | UnsetType = UNSET
    permissions: Permissions | UnsetType = UNSET
    requests_per_minute: Requests | UnsetType | None = UNSET
    tokens_per_minute: Tokens | UnsetType | None = UNSET
    monthly_budget: Dollars | UnsetType | None = UNSET
    on_disconnect: DisconnectPolicy | UnsetType | None = UNSET
    rate_limit_per_minute: Requests | UnsetType = UNSET


class KeyRotationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how long the present token goes on beside the new one."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=OVERLAP_SECONDS_MAX)] = 0


class KeyBudget(msgspec.Struct):
    """US dollars in a calendar month. `enforced`: whether calls are refused above it."""

    limit: str
    enforced: bool


class KeyResponse(msgspec.Struct, kw_only=True):
    """A key, never its token. `key_hint` is the part of the token that may be shown."""

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
    permissions: list[str]
    requests_per_minute: int | None
    rate_limit_per_minute: int | UnsetType = UNSET
    tokens_per_minute: int | None
    monthly_budget: KeyBudget | None
    on_disconnect: DisconnectPolicy | None
    created_at: datetime.datetime
    expires_at: datetime.datetime | None
    disabled_at: datetime.datetime | None
    revoked_at: datetime.datetime | None
    last_used_at: datetime.datetime | None
    rotated_at: datetime.datetime | None
    previous_expires_at: datetime.datetime | None
    version: int


class IssuedKeyResponse(KeyResponse, kw_only=True):
    """A key with `key`, its token: only here, only now."""

    key: str


class KeyPage(msgspec.Struct):
    """The newest first. `max_keys`: how many there may be that are not revoked."""

    keys: list[KeyResponse]
    total: int
    max_keys: int
    limit: int
    offset: int


def read_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of a body as `Key` has them. Raises `InvalidFieldError` for two names that contradict
    each other."""
    fields = {name: value for name, value in given.items() if name not in NOT_OF_THE_KEY}
    rate = given.get("rate_limit_per_minute", UNSET)
    if rate is not UNSET:
        if fields.get("requests_per_minute") not in (None, rate):
            message = "It is another name of requests_per_minute, which has another value."
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


def to_issued_key_response(issued: IssuedKey, now: float) -> IssuedKeyResponse:
    """A key with its token, as the API writes them."""
    shown = msgspec.structs.asdict(to_key_response(issued.key, now))
    return IssuedKeyResponse(key=issued.token, **shown)


def to_key_response(key: Key, now: float) -> KeyResponse:
    """A key as the API writes it."""
    hint = f"hg_{key.kind.value}_{key.id.removeprefix('key_')}"
    state = find_state(key, now)
    return KeyResponse(
        id=key.id,
        kind=key.kind,
        name=key.name,
        description=key.description,
        labels=key.labels,
        organization_id=key.organization_id,
        project_id=key.project_id,
        key_hint=hint,
        masked_key=f"{hint}_…",
        state=state,
        is_active=state is KeyState.ACTIVE,
        is_expired=key.expires_at is not None and key.expires_at <= now,
        models=list(key.models),
        endpoints=list(key.endpoints),
        projects=list(key.projects),
        networks=list(key.networks),
        resources=list(key.resources),
        permissions=list(key.permissions),
        requests_per_minute=key.requests_per_minute or None,
        rate_limit_per_minute=key.requests_per_minute or UNSET,
        tokens_per_minute=key.tokens_per_minute or None,
        monthly_budget=to_key_budget(key.monthly_budget_nano),
        on_disconnect=key.on_disconnect,
        created_at=to_datetime(key.created_at),
        expires_at=to_optional_datetime(key.expires_at),
        disabled_at=to_optional_datetime(key.disabled_at),
        revoked_at=to_optional_datetime(key.revoked_at),
        last_used_at=to_optional_datetime(key.last_used_at),
        rotated_at=to_optional_datetime(key.rotated_at),
        previous_expires_at=to_optional_datetime(key.previous_expires_at),
        version=key.version,
    )


def to_key_budget(nano: int | None) -> KeyBudget | None:
    """A budget in dollars and cents, or finer; calls are not stopped by it yet."""
    if nano is None:
        return None
    whole, _, parts = format_dollars(nano).partition(".")
    return KeyBudget(f"{whole}.{parts.rstrip('0').ljust(CENTS, '0')}", enforced=False)
