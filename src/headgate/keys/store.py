"""The SQL of keys. Tokens are stored as their SHA-256 only."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.keys.model import Key, KeyFilter, KeyKind, KeyState
from headgate.kit import outbox
from headgate.kit.db.schema import METADATA, bump_revision, count_rows, read_revisions, read_time
from headgate.relay.capacity_limits import CapacityEntry, CapacityLimit, read_limits
from headgate.relay.ports import Budget, DisconnectPolicy

# Every change bumps the revision of this topic, by which other processes notice it.
TOPIC = "keys"
IDS_PER_STATEMENT = 500
NO_LIST = "[]"

KEYS = sa.Table(
    "keys",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("digest", sa.LargeBinary(32), nullable=False, unique=True),
    sa.Column("kind", sa.Text, nullable=False),
    sa.Column("name", sa.Text, nullable=False),
    sa.Column(
        "organization_id", sa.Text, sa.ForeignKey("organizations.id"), nullable=False, index=True
    ),
    sa.Column("project_id", sa.Text, sa.ForeignKey("projects.id"), nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("expires_at", sa.Double),
    sa.Column("disabled_at", sa.Double),
    sa.Column("revoked_at", sa.Double),
    sa.Column("models", sa.JSON, nullable=False),
    sa.Column("endpoints", sa.JSON, nullable=False),
    sa.Column("requests_per_minute", sa.Integer, nullable=False),
    sa.Column("on_disconnect", sa.Text),
    sa.Column("projects", sa.JSON, nullable=False, server_default="[]"),
    sa.Column("networks", sa.JSON, nullable=False, server_default="[]"),
    sa.Column("resources", sa.JSON, nullable=False, server_default="[]"),
    sa.Column("permissions", sa.JSON, nullable=False, server_default="[]"),
    sa.Column("tokens_per_minute", sa.Integer, nullable=False, server_default="0"),
    sa.Column("monthly_budget_nano", sa.BigInteger),
    sa.Column("description", sa.Text, nullable=False, server_default=""),
    sa.Column("labels", sa.JSON, nullable=False, server_default="{}"),
    sa.Column("last_used_at", sa.Double),
    sa.Column("rotated_at", sa.Double),
    sa.Column("previous_digest", sa.LargeBinary(32)),
    sa.Column("previous_expires_at", sa.Double),
    sa.Column("version", sa.Integer, nullable=False, server_default="1"),
    sa.Column("changed_at_revision", sa.BigInteger, nullable=False, server_default="0"),
    sa.Column("budget_managed_only", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("budget_thresholds", sa.JSON, nullable=False, server_default="[50, 80, 100]"),
    sa.Column("requires_signature", sa.Boolean, nullable=False, server_default=sa.false()),
    sa.Column("capacity", sa.JSON, nullable=False, server_default="[]"),
    sa.Column("enforce_capacity", sa.Boolean, nullable=False, server_default=sa.true()),
    sa.Column("tools", sa.JSON, nullable=False, server_default="[]"),
)
sa.Index("ix_keys_listing", KEYS.c.organization_id, KEYS.c.created_at, KEYS.c.id)
sa.Index("ix_keys_changed_at_revision", KEYS.c.changed_at_revision)

_FIELDS = Key.__struct_fields__
_COLUMNS = [KEYS.c[name] for name in _FIELDS]
_LISTS = ("models", "endpoints", "projects", "networks", "resources", "tools", "permissions")
_STORED = [
    KEYS.c.changed_at_revision,
    KEYS.c.digest,
    KEYS.c.previous_digest,
    KEYS.c.previous_expires_at,
    KEYS.c.id,
    KEYS.c.kind == KeyKind.LIVE.value,
    KEYS.c.organization_id,
    KEYS.c.project_id,
    KEYS.c.expires_at,
    KEYS.c.disabled_at,
    KEYS.c.revoked_at,
    KEYS.c.requests_per_minute,
    KEYS.c.tokens_per_minute,
    KEYS.c.requires_signature,
    KEYS.c.on_disconnect,
    # As text: msgspec decodes tens of thousands of rows faster than SQLAlchemy's JSON type.
    *(sa.cast(KEYS.c[name], sa.Text) for name in _LISTS),
    sa.case((KEYS.c.enforce_capacity, sa.cast(KEYS.c.capacity, sa.Text)), else_=NO_LIST),
]


class StoredKey(msgspec.Struct, frozen=True):
    """Hold what the key index needs of a key, with the digests of its tokens and the revision at
    which it was changed. A start loads tens of thousands of these."""

    revision: int
    digest: bytes
    previous_digest: bytes | None
    previous_expires_at: float | None
    id: str
    is_live: bool
    organization_id: str
    project_id: str
    expires_at: float | None
    disabled_at: float | None
    revoked_at: float | None
    requests_per_minute: int
    tokens_per_minute: int
    requires_signature: bool
    on_disconnect: DisconnectPolicy | None
    models: tuple[str, ...]
    endpoints: tuple[str, ...]
    projects: tuple[str, ...]
    networks: tuple[str, ...]
    resources: tuple[str, ...]
    tools: tuple[str, ...]
    permissions: tuple[str, ...]
    capacity: tuple[CapacityLimit, ...]
    """The limits of its capacity that are enforced."""


_POLICY = StoredKey.__struct_fields__.index("on_disconnect")
_TEXTS = range(_POLICY + 1, len(_STORED) - 1)


def next_revision(connection: sa.Connection) -> int:
    """Bump the revision and return it. Other processes reload once this transaction commits.

    Revisions follow the order of commits, since each transaction holds the row's lock until then.
    """
    bump_revision(connection, TOPIC)
    return read_revisions(connection)[TOPIC]


def insert_key(connection: sa.Connection, key: Key, *, digest: bytes) -> None:
    values: dict[str, Any] = msgspec.to_builtins(key)
    revision = next_revision(connection)
    connection.execute(
        sa.insert(KEYS).values(digest=digest, changed_at_revision=revision, **values)
    )


def update_key(connection: sa.Connection, key: Key, values: Mapping[str, Any]) -> None:
    revision = next_revision(connection)
    connection.execute(
        sa.update(KEYS)
        .where(KEYS.c.organization_id == key.organization_id, KEYS.c.id == key.id)
        .values(
            version=KEYS.c.version + 1,
            changed_at_revision=revision,
            **msgspec.to_builtins(values, builtin_types=(bytes,)),
        )
    )


def select_key(
    connection: sa.Connection, key_id: str, *, organization_id: str | None = None
) -> Key | None:
    """Return the key, in one organization or, for the command line, in any."""
    statement = sa.select(*_COLUMNS).where(KEYS.c.id == key_id)
    if organization_id is not None:
        statement = statement.where(KEYS.c.organization_id == organization_id)
    row = connection.execute(statement).one_or_none()
    return None if row is None else _key(row)


def select_digest(connection: sa.Connection, key: Key) -> bytes:
    return connection.execute(sa.select(KEYS.c.digest).where(KEYS.c.id == key.id)).scalar_one()


def select_all(connection: sa.Connection) -> Iterator[Key]:
    """Yield every key, oldest first."""
    statement = sa.select(*_COLUMNS).order_by(KEYS.c.created_at, KEYS.c.id)
    for row in connection.execute(statement):
        yield _key(row)


def select_changed(connection: sa.Connection, *, after_revision: int) -> Iterator[StoredKey]:
    statement = sa.select(*_STORED).where(KEYS.c.changed_at_revision > after_revision)
    for row in connection.execute(statement):
        values: list[Any] = list(row)
        for index in _TEXTS:
            stored = values[index]
            # Most lists are empty, and comparing is cheaper than decoding.
            values[index] = () if stored == NO_LIST else _decode_texts(stored)
        if values[_POLICY] is not None:
            values[_POLICY] = DisconnectPolicy(values[_POLICY])
        values[-1] = () if values[-1] == NO_LIST else read_limits(_decode_capacity(values[-1]))
        yield StoredKey(*values)


def select_changed_budgets(
    connection: sa.Connection, *, after_revision: int
) -> Iterator[tuple[int, str, str, Budget | None]]:
    """Yield the revision, id, organization and budget of the keys changed since then; None for a
    key without a budget, and for one that was revoked."""
    nano = sa.case((KEYS.c.revoked_at.is_(None), KEYS.c.monthly_budget_nano))
    statement = sa.select(
        KEYS.c.changed_at_revision,
        KEYS.c.id,
        KEYS.c.organization_id,
        nano,
        KEYS.c.budget_managed_only,
        KEYS.c.budget_thresholds,
    ).where(KEYS.c.changed_at_revision > after_revision)
    for revision, key_id, organization_id, limit, managed_only, thresholds in connection.execute(
        statement
    ):
        budget = Budget("key", key_id, limit or 0, managed_only, tuple(thresholds))
        yield revision, key_id, organization_id, None if limit is None else budget


def select_with_budget(
    connection: sa.Connection, organization_id: str, *, among: Sequence[str] = ()
) -> list[Key]:
    """Return the unrevoked keys of an organization that have a monthly budget, oldest first; of
    these projects, if there are any."""
    conditions = [
        KEYS.c.organization_id == organization_id,
        KEYS.c.revoked_at.is_(None),
        KEYS.c.monthly_budget_nano.is_not(None),
    ]
    if among:
        conditions.append(KEYS.c.project_id.in_(among))
    statement = sa.select(*_COLUMNS).where(*conditions).order_by(KEYS.c.created_at, KEYS.c.id)
    return [_key(row) for row in connection.execute(statement)]


def select_latest_time(connection: sa.Connection) -> float:
    """Return the latest time that a process has seen or at which a key was used, or 0."""
    used = connection.execute(sa.select(sa.func.max(KEYS.c.last_used_at))).scalar() or 0.0
    return max(used, read_time(connection))


def select_page(
    connection: sa.Connection, key_filter: KeyFilter, *, now: float, limit: int, offset: int
) -> list[Key]:
    statement = (
        sa.select(*_COLUMNS)
        .where(*_conditions(key_filter, now))
        .order_by(KEYS.c.created_at.desc(), KEYS.c.id.desc())
        .limit(limit)
        .offset(offset)
    )
    return [_key(row) for row in connection.execute(statement)]


def count_keys(connection: sa.Connection, key_filter: KeyFilter, *, now: float) -> int:
    return count_rows(connection, KEYS, *_conditions(key_filter, now))


def count_unrevoked(connection: sa.Connection, organization_id: str) -> int:
    conditions = (KEYS.c.organization_id == organization_id, KEYS.c.revoked_at.is_(None))
    return count_rows(connection, KEYS, *conditions)


def mark_used(connection: sa.Connection, key_ids: Sequence[str], *, at: float) -> None:
    """Store when keys were last used, without a new revision, since nobody has to reload for it."""
    for start in range(0, len(key_ids), IDS_PER_STATEMENT):
        batch = key_ids[start : start + IDS_PER_STATEMENT]
        connection.execute(sa.update(KEYS).where(KEYS.c.id.in_(batch)).values(last_used_at=at))


def append_event(connection: sa.Connection, row: outbox.Row) -> None:
    outbox.append(connection, [row])


def _conditions(key_filter: KeyFilter, now: float) -> list[sa.ColumnElement[bool]]:
    found: list[sa.ColumnElement[bool]] = [KEYS.c.organization_id == key_filter.organization_id]
    if key_filter.among:
        is_limited = sa.cast(KEYS.c.projects, sa.Text) != NO_LIST
        found.append(KEYS.c.project_id.in_(key_filter.among))
        found.append(sa.or_(KEYS.c.kind == KeyKind.LIVE.value, is_limited))
    if key_filter.project_id is not None:
        found.append(KEYS.c.project_id == key_filter.project_id)
    if key_filter.kind is not None:
        found.append(KEYS.c.kind == key_filter.kind.value)
    if key_filter.search is not None:
        found.append(KEYS.c.name.icontains(key_filter.search, autoescape=True))
    if not key_filter.include_revoked:
        found.append(KEYS.c.revoked_at.is_(None))
    if key_filter.state is not None:
        found += _match_state(key_filter.state, now)
    return found


def _match_state(state: KeyState, now: float) -> Sequence[sa.ColumnElement[bool]]:
    unrevoked, enabled = KEYS.c.revoked_at.is_(None), KEYS.c.disabled_at.is_(None)
    is_expired = sa.func.coalesce(KEYS.c.expires_at, now + 1) <= now
    return {
        KeyState.REVOKED: [~unrevoked],
        KeyState.DISABLED: [unrevoked, ~enabled],
        KeyState.EXPIRED: [unrevoked, enabled, is_expired],
        KeyState.ACTIVE: [unrevoked, enabled, ~is_expired],
    }[state]


_decode_texts = msgspec.json.Decoder(tuple[str, ...]).decode
_decode_capacity = msgspec.json.Decoder(tuple[CapacityEntry, ...]).decode


def _key(row: Any) -> Key:
    fields = dict(zip(_FIELDS, row, strict=False))
    for name in _LISTS:
        fields[name] = tuple(fields[name])
    fields["budget_thresholds"] = tuple(fields["budget_thresholds"])
    fields["capacity"] = msgspec.convert(fields["capacity"], tuple[CapacityEntry, ...])
    fields["kind"] = KeyKind(fields["kind"])
    if fields["on_disconnect"] is not None:
        fields["on_disconnect"] = DisconnectPolicy(fields["on_disconnect"])
    return Key(**fields)
