"""The SQL of roll-ups: sums of receipts for each quarter of an hour and each day."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.kit.db.schema import METADATA
from headgate.kit.failpoint import failpoint
from headgate.metering.model.histogram import HistogramSum, decode_histogram, encode_histogram
from headgate.metering.model.usage import DIMENSIONS, SUMS, Group, Measures, name_model
from headgate.metering.model.usage_groups import encode_pair, matches_metadata
from headgate.metering.model.zones import Period
from headgate.metering.store.receipts import OPEN, RECEIPTS

KEY = ("organization_id", "bucket_at", *DIMENSIONS)
ALWAYS = 2**62
"""The end of what is built when all days are."""
READ_ROWS = 2_000
_CHUNK = 100


def _build(name: str) -> sa.Table:
    texts = DIMENSIONS[:-1]
    return sa.Table(
        name,
        METADATA,
        sa.Column("organization_id", sa.Text, primary_key=True),
        sa.Column("bucket_at", sa.BigInteger, primary_key=True, autoincrement=False),
        *(sa.Column(each, sa.Text, primary_key=True) for each in texts),
        sa.Column("managed", sa.SmallInteger, primary_key=True, autoincrement=False),
        *(sa.Column(each, sa.BigInteger, nullable=False) for each in SUMS),
        sa.Column("histogram", sa.LargeBinary, nullable=False),
    )


QUARTERS = _build("usage_quarters")
DAYS = _build("usage_days")
"""Days of the organization's reporting zone; `bucket_at` is their first moment."""
ZONES = sa.Table(
    "usage_zones",
    METADATA,
    sa.Column("organization_id", sa.Text, primary_key=True),
    sa.Column("zone", sa.Text, nullable=False),
    sa.Column("built_until", sa.BigInteger, nullable=False),
)
_READ = tuple(
    RECEIPTS.c[name]
    for name in (
        "request_id",
        "created_at",
        "organization_id",
        "project_id",
        "key_id",
        "credential_id",
        "provider",
        "model_requested",
        "model_served",
        "managed",
        "outcome",
        "usage",
        "cost_nano",
        "credit_nano",
        "total_microseconds",
        "metadata",
        "cache_status",
    )
)


class ZoneState(msgspec.Struct, frozen=True):
    """Say in which zone an organization's days are, and before which time they are complete."""

    organization_id: str
    zone: str
    built_until: int


class UsageFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Filter receipts and their sums; an empty text or None does not restrict. `projects` and
    `own_key_id` are what the caller may see; empty for all."""

    organization_id: str
    projects: tuple[str, ...] = ()
    project_id: str = ""
    key_id: str = ""
    credential_id: str = ""
    provider: str = ""
    model: str = ""
    managed: bool | None = None
    metadata: Mapping[str, str] = {}
    own_key_id: str = ""


def select_open(connection: sa.Connection, rows_max: int) -> Sequence[sa.Row[Any]]:
    """Return receipts that are in no roll-up yet, in any order."""
    return connection.execute(sa.select(*_READ).where(OPEN).limit(rows_max)).all()


def mark_rolled_up(connection: sa.Connection, request_ids: Sequence[str]) -> None:
    connection.execute(
        sa.update(RECEIPTS)
        .where(RECEIPTS.c.request_id == sa.bindparam("known"), OPEN)
        .values(rolled_up=1),
        [{"known": each} for each in request_ids],
    )
    failpoint("roll_up")


def add_measures(
    connection: sa.Connection, table: sa.Table, added: Mapping[Group, Measures]
) -> None:
    """Add sums to the rows of a table, and make those that are missing."""
    keys = list(added)
    known: dict[Group, Measures] = {}
    for start in range(0, len(keys), _CHUNK):
        known |= _select_rows(connection, table, keys[start : start + _CHUNK])
    new: list[dict[str, Any]] = []
    changed: list[dict[str, Any]] = []
    for key, measures in added.items():
        total = known.get(key)
        if total is None:
            new.append(dict(zip(KEY, key, strict=True)) | _to_values(measures))
        else:
            total.add(measures)
            names = [f"at_{name}" for name in KEY]
            changed.append(dict(zip(names, key, strict=True)) | _to_values(total))
    if new:
        connection.execute(sa.insert(table), new)
    if changed:
        at = [table.c[name] == sa.bindparam(f"at_{name}") for name in KEY]
        values: dict[str, Any] = {name: sa.bindparam(name) for name in (*SUMS, "histogram")}
        connection.execute(sa.update(table).where(*at).values(values), changed)


def _select_rows(
    connection: sa.Connection, table: sa.Table, keys: Sequence[Group]
) -> dict[Group, Measures]:
    columns = [table.c[name] for name in KEY]
    sums = [table.c[name] for name in SUMS]
    rows = connection.execute(
        sa.select(*columns, *sums, table.c.histogram).where(sa.tuple_(*columns).in_(keys))
    )
    found: dict[Group, Measures] = {}
    for row in rows:
        values = tuple(row)
        measures = Measures(*values[len(KEY) : -1], histogram=decode_histogram(bytes(values[-1])))
        found[values[: len(KEY)]] = measures
    return found


def _to_values(measures: Measures) -> dict[str, Any]:
    values: dict[str, Any] = {name: getattr(measures, name) for name in SUMS}
    values["histogram"] = encode_histogram(measures.histogram, measures.latency_count)
    return values


def sum_stored(
    connection: sa.Connection,
    table: sa.Table,
    filters: UsageFilter,
    period: Period,
    dimensions: Sequence[str],
    *,
    by_time: bool,
    with_latency: bool,
    find: Callable[[int, Group], Measures],
) -> None:
    """Add the roll-up rows of a period to the sums that `find` returns for a time and a group.
    Without `by_time`, that time is the start of the period."""
    columns = [table.c[name] for name in ("bucket_at",) * by_time + tuple(dimensions)]
    conditions = _match_period(filters, table, period)
    totals = [sa.func.coalesce(sa.func.sum(table.c[name]), 0) for name in SUMS]
    counted = sa.select(*columns, *totals, sa.func.count())
    width = len(columns)
    for row in connection.execute(counted.where(*conditions).group_by(*columns)):
        if row[-1]:
            at = row[0] if by_time else period.start
            find(at, tuple(row[by_time:width])).add_stored(row[width:-1])
    if with_latency:
        read = sa.select(*columns, table.c.histogram).where(*conditions, table.c.latency_count > 0)
        sums: dict[Group, HistogramSum] = {}
        for row in connection.execute(read.execution_options(yield_per=READ_ROWS)):
            values = tuple(row)
            key, stored = values[:width], values[width]
            found = sums.get(key)
            if found is None:
                found = sums[key] = HistogramSum()
            found.add(stored)
        for key, found in sums.items():
            at = key[0] if by_time else period.start
            find(at, key[by_time:]).histogram += found.total()


def select_groups(
    connection: sa.Connection,
    table: sa.Table,
    filters: UsageFilter,
    period: Period,
    dimensions: Sequence[str],
) -> Iterator[Group]:
    """Yield the groups that the roll-up rows of a period have."""
    columns = [table.c[name] for name in dimensions]
    conditions = _match_period(filters, table, period)
    for row in connection.execute(sa.select(*columns).where(*conditions).distinct()):
        yield tuple(row)


def _match_period(
    filters: UsageFilter, table: sa.Table, period: Period
) -> list[sa.ColumnElement[bool]]:
    at = table.c.bucket_at
    return [at >= period.start, at < period.end, *match_filters(filters, table)]


def select_receipts(
    connection: sa.Connection, filters: UsageFilter, period: Period, *, open_only: bool
) -> Iterator[sa.Row[Any]]:
    """Yield the receipts of a period: all, or those that are in no roll-up yet."""
    table = RECEIPTS.c
    conditions = [table.created_at >= period.start, table.created_at < period.end]
    conditions += match_filters(filters, RECEIPTS)
    if open_only:
        conditions.append(OPEN)  # type: ignore[arg-type]
    statement = sa.select(*_READ).where(*conditions)
    for row in connection.execute(statement.execution_options(yield_per=READ_ROWS)):
        # Receipts have the model as it was requested, and the database only narrows metadata down.
        is_of_model = not filters.model or name_model(row) == filters.model
        if is_of_model and matches_metadata(row, filters.metadata):
            yield row


def match_filters(filters: UsageFilter, table: sa.Table) -> list[sa.ColumnElement[bool]]:
    """Return the conditions of a filter; of receipts, all but the model."""
    columns = table.c
    found = [columns.organization_id == filters.organization_id]
    found += [
        columns[name] == value
        for name in ("project_id", "key_id", "credential_id", "provider")
        if (value := getattr(filters, name))
    ]
    if filters.model and table is not RECEIPTS:
        found.append(columns.model == filters.model)
    if filters.own_key_id:
        found.append(columns.key_id == filters.own_key_id)
    if filters.projects:
        found.append(columns.project_id.in_(filters.projects))
    if filters.managed is not None:
        found.append(columns.managed == int(filters.managed))
    if filters.metadata and table is RECEIPTS:
        found += [
            columns.metadata.contains(encode_pair(*pair), autoescape=True)
            for pair in filters.metadata.items()
        ]
    return found


def find_state(connection: sa.Connection, organization_id: str) -> ZoneState | None:
    row = connection.execute(
        sa.select(ZONES).where(ZONES.c.organization_id == organization_id)
    ).first()
    return None if row is None else ZoneState(*row)


def list_states(connection: sa.Connection) -> list[ZoneState]:
    return [ZoneState(*row) for row in connection.execute(sa.select(ZONES))]


def write_state(connection: sa.Connection, state: ZoneState) -> None:
    values = {"zone": state.zone, "built_until": state.built_until}
    at = ZONES.c.organization_id == state.organization_id
    if not connection.execute(sa.update(ZONES).where(at).values(values)).rowcount:
        connection.execute(sa.insert(ZONES).values(organization_id=state.organization_id, **values))


def delete_days(connection: sa.Connection, organization_id: str, rows_max: int) -> int:
    """Delete at most so many day rows of an organization; return how many."""
    return _delete_some(connection, DAYS, [DAYS.c.organization_id == organization_id], rows_max)


def delete_before(connection: sa.Connection, before: int, rows_max: int) -> int:
    """Delete at most so many roll-up rows older than a time; return how many."""
    return sum(
        _delete_some(connection, table, [table.c.bucket_at < before], rows_max)
        for table in (QUARTERS, DAYS)
    )


def _delete_some(
    connection: sa.Connection,
    table: sa.Table,
    conditions: Iterable[sa.ColumnElement[bool]],
    rows_max: int,
) -> int:
    columns = [table.c[name] for name in KEY]
    keys = connection.execute(sa.select(*columns).where(*conditions).limit(rows_max)).all()
    if keys:
        at = [table.c[name] == sa.bindparam(f"at_{name}") for name in KEY]
        names = [f"at_{name}" for name in KEY]
        rows = [dict(zip(names, key, strict=True)) for key in keys]
        connection.execute(sa.delete(table).where(*at), rows)
    return len(keys)


def find_first_quarter(connection: sa.Connection, organization_id: str, since: int) -> int | None:
    """Return the first quarter of an hour with usage from a time on; None if there is none."""
    column = QUARTERS.c.bucket_at
    return connection.execute(
        sa.select(sa.func.min(column)).where(
            QUARTERS.c.organization_id == organization_id, column >= since
        )
    ).scalar_one()


def select_quarters(
    connection: sa.Connection, organization_id: str, period: Period
) -> Iterator[tuple[Group, Measures]]:
    """Yield dimensions and sums of each quarter's row in a period."""
    table = QUARTERS.c
    columns = [table[name] for name in (*DIMENSIONS, *SUMS, "histogram")]
    statement = sa.select(*columns).where(
        table.organization_id == organization_id,
        table.bucket_at >= period.start,
        table.bucket_at < period.end,
    )
    rows = connection.execute(statement.execution_options(yield_per=READ_ROWS))
    width = len(DIMENSIONS)
    for row in rows:
        values = tuple(row)
        measures = Measures(*values[width:-1], histogram=decode_histogram(bytes(values[-1])))
        yield values[:width], measures
