"""The keys of an organization: issued, limited, rotated, revoked."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
import sqlalchemy as sa
from msgspec import UNSET, Meta, UnsetType

from headgate.api.access import organization
from headgate.api.operation import Ask, Operations
from headgate.api.pages import PageQuery
from headgate.api.shapes import (
    Metadata,
    Name,
    Nothing,
    Timestamp,
    read_time,
    show_time,
    show_time_if_any,
)
from headgate.keys.model import (
    IssuedKey,
    Key,
    KeyFilter,
    KeyKind,
    KeyMissing,
    KeyRequest,
    KeyRequestRefused,
    KeyState,
    find_state,
    is_among,
)
from headgate.keys.model.scope import (
    ENTRIES_MAX,
    REQUESTS_PER_MINUTE_MAX,
    TOKENS_PER_MINUTE_MAX,
)
from headgate.keys.service import OVERLAP_SECONDS_MAX, Authority
from headgate.kit.money import format_dollars, nano_from_dollars
from headgate.relay.ports import DisconnectPolicy

OPERATIONS = Operations("API keys", "Keys that open the gate: what each may do, and until when.")
READ = organization("keys:read")
WRITE = organization("keys:write")
CENTS = 2

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


class KeyFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new key. Without `project_id` it is of the issuing key's project, else of the oldest."""

    name: Name
    kind: KeyKind = KeyKind.LIVE
    project_id: Word | None = None
    description: Description = ""
    labels: Metadata = {}
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


class KeyChanges(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What is given is changed; null takes a limit away."""

    name: Name | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET
    description: Description | UnsetType = UNSET
    labels: Metadata | UnsetType = UNSET
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


class KeyRotation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """For how long the present token goes on beside the new one."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=OVERLAP_SECONDS_MAX)] = 0


class KeyBudget(msgspec.Struct):
    """US dollars in a calendar month. `enforced`: whether calls are refused above it."""

    limit: str
    enforced: bool


class ShownKey(msgspec.Struct, kw_only=True):
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


class ShownIssuedKey(ShownKey, kw_only=True):
    """A key with `key`, its token: only here, only now."""

    key: str


class KeyPage(msgspec.Struct):
    """The newest first. `max_keys`: how many there may be that are not revoked."""

    keys: list[ShownKey]
    total: int
    max_keys: int
    limit: int
    offset: int


@OPERATIONS.get("/api/api-keys", access=READ, summary="List keys")
async def list_keys(ask: Ask[KeyQuery, Nothing]) -> KeyPage:
    """Also disabled, expired and revoked ones, unless `state` says otherwise."""
    query, keys = ask.query, ask.services.keys
    wanted = KeyFilter(
        organization_id=ask.organization_id,
        among=ask.principal.projects,
        project_id=query.project_id,
        kind=query.kind,
        state=query.state,
        search=query.search,
    )
    page, total = await ask.read(
        lambda connection: keys.page(connection, wanted, limit=query.limit, offset=query.offset)
    )
    now = ask.services.clock.now()
    shown = [show_key(key, now) for key in page]
    return KeyPage(shown, total, keys.keys_max, query.limit, query.offset)


@OPERATIONS.post(
    "/api/api-keys",
    access=WRITE,
    status=201,
    summary="Issue a key",
    errors=(409,),
    example={"name": "Search service", "models": ["gpt-5*"], "requests_per_minute": 600},
)
async def issue_key(ask: Ask[Nothing, KeyFields]) -> ShownIssuedKey:
    """Its token is in `key` and is not shown again. A key issues only what it holds itself."""

    def issue(connection: sa.Connection) -> ShownIssuedKey:
        body = ask.body
        request = KeyRequest(
            organization_id=ask.organization_id,
            project_id=body.project_id or choose_project(ask, connection),
            kind=body.kind,
            **read_fields(msgspec.structs.asdict(body)),
        )
        issued = ask.services.keys.create(
            connection, request, by=ask.actor, authority=find_authority(ask, connection)
        )
        return show_issued(issued, ask.services.clock.now())

    return await ask.create(issue)


@OPERATIONS.get("/api/api-keys/{key_id}", access=READ, summary="Read a key")
async def get_key(ask: Ask[Nothing, Nothing]) -> ShownKey:
    """Also a revoked one."""
    key = await ask.read(lambda connection: find(ask, connection))
    return show_key(key, ask.services.clock.now())


@OPERATIONS.patch(
    "/api/api-keys/{key_id}",
    access=WRITE,
    summary="Change a key",
    errors=(409,),
    example={"enabled": False},
)
async def update_key(ask: Ask[Nothing, KeyChanges]) -> ShownKey:
    """In force at once. Nothing revives a key that is revoked or has expired, and a key cannot
    give another one more than it holds itself."""

    def change(connection: sa.Connection) -> Key:
        key = find(ask, connection)
        ask.check_match(key.version)
        given = msgspec.structs.asdict(ask.body)
        changes = {name: value for name, value in given.items() if value is not UNSET}
        enabled: bool | None = changes.pop("enabled", None)
        return ask.services.keys.update(
            connection,
            key,
            read_fields(changes),
            enabled=enabled,
            by=ask.actor,
            authority=find_authority(ask, connection),
        )

    key = await ask.write(change)
    return show_key(key, ask.services.clock.now())


@OPERATIONS.delete("/api/api-keys/{key_id}", access=WRITE, status=204, summary="Revoke a key")
async def revoke_key(ask: Ask[Nothing, Nothing]) -> None:
    """All its tokens are refused from now on, for good; it stays in the list."""

    def revoke(connection: sa.Connection) -> None:
        key = find(ask, connection)
        ask.check_match(key.version)
        ask.services.keys.revoke(connection, key, by=ask.actor)

    await ask.write(revoke)


@OPERATIONS.post(
    "/api/api-keys/{key_id}/rotate",
    access=WRITE,
    summary="Rotate a key",
    errors=(409,),
    example={"overlap_seconds": 86400},
)
async def rotate_key(ask: Ask[Nothing, KeyRotation]) -> ShownIssuedKey:
    """A new token of the same key, shown once. The present one goes on for the overlap, both with
    the same rates; one that was still good from a rotation before ends."""

    def rotate(connection: sa.Connection) -> ShownIssuedKey:
        key = find(ask, connection)
        ask.check_match(key.version)
        issued = ask.services.keys.rotate(
            connection,
            key,
            overlap_seconds=ask.body.overlap_seconds,
            by=ask.actor,
            authority=find_authority(ask, connection),
        )
        return show_issued(issued, ask.services.clock.now())

    return await ask.create(rotate)


@OPERATIONS.post(
    "/api/api-keys/{key_id}/revoke-previous", access=WRITE, summary="End an overlap at once"
)
async def revoke_previous_token(ask: Ask[Nothing, Nothing]) -> ShownKey:
    """Only the newest token is good from now on. Nothing changes where it is the only one."""

    def end(connection: sa.Connection) -> Key:
        key = find(ask, connection)
        ask.check_match(key.version)
        return ask.services.keys.end_overlap(connection, key, by=ask.actor)

    key = await ask.write(end)
    return show_key(key, ask.services.clock.now())


def find(ask: Ask[Any, Any], connection: sa.Connection) -> Key:
    """The key of the path. `KeyMissing` for one that this caller may not know of."""
    key_id = ask.path["key_id"]
    if key_id.isprintable():
        key = ask.services.keys.get(connection, ask.organization_id, key_id)
        if is_among(key, ask.principal.projects):
            return key
    raise KeyMissing("There is no such key.")


def find_authority(ask: Ask[Any, Any], connection: sa.Connection) -> Authority:
    """What who asks may hand out: a key as it is stored in this very transaction."""
    if ask.principal.grant is None:
        return Authority(is_operator=ask.principal.is_operator)
    keys = ask.services.keys
    return keys.find_authority(connection, ask.organization_id, ask.principal.grant.key_id)


def choose_project(ask: Ask[Any, Any], connection: sa.Connection) -> str:
    """The project of a key that names none. Raises `KeyRequestRefused` where there is none."""
    if ask.principal.grant is not None:
        return ask.principal.grant.project_id
    accounts = ask.services.accounts
    projects, _ = accounts.list_projects(connection, ask.organization_id, limit=1)
    if not projects:
        message = "The organization has no project; create one first."
        raise KeyRequestRefused(message, param="project_id")
    return projects[0].id


def read_fields(given: dict[str, Any]) -> dict[str, Any]:
    """Fields of a body as `Key` has them."""
    fields = {name: value for name, value in given.items() if name not in ("kind", "project_id")}
    for name, value in fields.items():
        if isinstance(value, list):
            fields[name] = tuple(value)  # pyright: ignore[reportUnknownArgumentType]
    for name in ("requests_per_minute", "tokens_per_minute"):
        if name in fields:
            fields[name] = fields[name] or 0
    if "expires_at" in fields:
        fields["expires_at"] = read_time(fields["expires_at"])
    if "monthly_budget" in fields:
        dollars = fields.pop("monthly_budget")
        fields["monthly_budget_nano"] = None if dollars is None else nano_from_dollars(dollars)
    return fields


def show_issued(issued: IssuedKey, now: float) -> ShownIssuedKey:
    """A key with its token, as the API writes them."""
    shown = msgspec.structs.asdict(show_key(issued.key, now))
    return ShownIssuedKey(key=issued.token, **shown)


def show_key(key: Key, now: float) -> ShownKey:
    """A key as the API writes it."""
    hint = f"hg_{key.kind.value}_{key.id.removeprefix('key_')}"
    state = find_state(key, now)
    return ShownKey(
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
        tokens_per_minute=key.tokens_per_minute or None,
        monthly_budget=show_budget(key.monthly_budget_nano),
        on_disconnect=key.on_disconnect,
        created_at=show_time(key.created_at),
        expires_at=show_time_if_any(key.expires_at),
        disabled_at=show_time_if_any(key.disabled_at),
        revoked_at=show_time_if_any(key.revoked_at),
        last_used_at=show_time_if_any(key.last_used_at),
        rotated_at=show_time_if_any(key.rotated_at),
        previous_expires_at=show_time_if_any(key.previous_expires_at),
        version=key.version,
    )


def show_budget(nano: int | None) -> KeyBudget | None:
    """A budget in dollars and cents, or finer; calls are not stopped by it yet."""
    if nano is None:
        return None
    whole, _, parts = format_dollars(nano).partition(".")
    return KeyBudget(f"{whole}.{parts.rstrip('0').ljust(CENTS, '0')}", enforced=False)
