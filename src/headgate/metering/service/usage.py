"""Answers how much was used: by day roll-ups, quarters of an hour at the edges, and the receipts
that are in no roll-up yet. All three are read in one transaction, so nothing counts twice."""

from __future__ import annotations

import base64
import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate.accounts.service.accounts import find_reporting_zones
from headgate.kit.errors import HeadgateError, Kind
from headgate.metering.model.usage import (
    DIMENSIONS,
    Group,
    Measures,
    UsageRangeError,
    UsageTooLargeError,
    find_dimensions,
    name_model,
)
from headgate.metering.model.zones import (
    DEFAULT_ZONE,
    MICROSECONDS,
    Granularity,
    Period,
    ceil_quarter,
    find_whole_days,
    find_zone,
    floor_quarter,
    list_periods,
)
from headgate.metering.store import usage as store
from headgate.metering.store.receipts import RECEIPTS
from headgate.metering.store.usage import DAYS, QUARTERS, UsageFilter, ZoneState

GROUPS_MAX = 20_000
"""Groups of one answer: each takes about a kilobyte of memory."""
RECEIPTS_MAX = 1_000_000
"""Receipts read for a group that the roll-ups do not have."""
METADATA = "metadata:"
_EMPTY = ZoneState("", DEFAULT_ZONE, 0)


class InvalidUsageCursorError(HeadgateError):
    """The cursor is none that this list has returned.

    Send the `next_cursor` of the last page, with the same filters.
    """

    kind = Kind.INVALID
    code = "invalid_cursor"


class UsageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a query. `start` and `end` are in microseconds since 1970 and are widened to
    quarters of an hour. `group_by` has names of `DIMENSIONS` and `metadata:<name>`."""

    filters: UsageFilter
    start: int
    end: int
    zone: str = DEFAULT_ZONE
    granularity: Granularity | None = None
    group_by: tuple[str, ...] = ()
    cursor: str = ""
    limit: int = 100
    with_latency: bool = True


class UsageRow(msgspec.Struct, frozen=True):
    period: Period
    group: Group
    measures: Measures


class UsageAnswer(msgspec.Struct, frozen=True):
    period: Period
    rows: list[UsageRow]
    total: Measures
    next_cursor: str | None


def find_zone_of(connection: sa.Connection, organization_id: str) -> str:
    """Return the reporting zone of an organization."""
    return find_reporting_zones(connection, organization_id).get(organization_id, DEFAULT_ZONE)


def query_usage(connection: sa.Connection, query: UsageRequest) -> UsageAnswer:
    """Return one page of rows by time and group, and the sum over the whole range. Periods and
    groups without calls have rows of zeros.

    Raise `UsageRangeError`, `UsageTooLargeError`, `UnknownZoneError` and `InvalidUsageCursorError`.
    """
    find_zone(query.zone)
    whole = Period(floor_quarter(query.start), ceil_quarter(query.end))
    if whole.start >= whole.end:
        raise UsageRangeError("`end` must be after `start`.", param="end")
    reader = _Reader(connection, query)
    total = reader.sum(whole, ()).get((), Measures())
    rows = list(itertools.islice(reader.list_rows(whole), query.limit + 1))
    next_cursor = None
    if len(rows) > query.limit:
        rows.pop()
        next_cursor = _encode_cursor(rows[-1])
    return UsageAnswer(whole, rows, total, next_cursor)


def stream_usage(connection: sa.Connection, query: UsageRequest) -> Iterator[UsageRow]:
    """Yield all rows of a query, for exports."""
    find_zone(query.zone)
    whole = Period(floor_quarter(query.start), ceil_quarter(query.end))
    return _Reader(connection, query).list_rows(whole)


def sum_cost(
    connection: sa.Connection,
    organization_id: str,
    scope: str,
    scope_id: str,
    *,
    since: float,
    until: float,
    managed_only: bool = False,
) -> int:
    """Return what the calls of a key, a project or an organization cost at list price, in
    nano-dollars. Times are in unix seconds, and widened to quarters of an hour."""
    filters = UsageFilter(
        organization_id=organization_id,
        project_id=scope_id if scope == "project" else "",
        key_id=scope_id if scope == "key" else "",
        managed=True if managed_only else None,
    )
    whole = Period(
        floor_quarter(int(since * MICROSECONDS)), ceil_quarter(int(until * MICROSECONDS))
    )
    state = store.find_state(connection, organization_id) or _EMPTY
    return sum(
        store.sum_rows(connection, table, filters, part, "cost_nano")
        for table, part in (*_split(state, whole), (RECEIPTS, whole))
        if part.start < part.end
    )


def _split(state: ZoneState, period: Period) -> list[tuple[sa.Table, Period]]:
    """Return what of a period is read from which roll-up table: whole days from the days that are
    built, the edges from the quarters."""
    days = find_whole_days(state.zone, period.start, period.end)
    built = min(days.end, state.built_until)
    if built < days.end:
        built = find_whole_days(state.zone, days.start, max(days.start, built)).end
    if built <= days.start:
        return [(QUARTERS, period)]
    return [
        (QUARTERS, Period(period.start, days.start)),
        (DAYS, Period(days.start, built)),
        (QUARTERS, Period(built, period.end)),
    ]


class _Reader:
    """Read sums for one query in one transaction."""

    def __init__(self, connection: sa.Connection, query: UsageRequest) -> None:
        self._connection = connection
        self._query = query
        organization_id = query.filters.organization_id
        self._state = store.find_state(connection, organization_id) or _EMPTY
        self._names = tuple(name for name in query.group_by if name.startswith(METADATA))

    def list_rows(self, whole: Period) -> Iterator[UsageRow]:
        """Yield the rows after the cursor, by time and group."""
        query = self._query
        after_start, after_group = _decode_cursor(query.cursor, whole.start)
        groups = self._list_groups(whole)
        for period in list_periods(query.zone, query.granularity, whole.start, whole.end):
            if period.start < after_start:
                continue
            sums = self.sum(period, query.group_by)
            for group in groups:
                is_done = period.start == after_start and after_group is not None
                if is_done and _order(group) <= _order(after_group or ()):
                    continue
                yield UsageRow(period, group, sums.get(group) or Measures())

    def sum(self, period: Period, group_by: Sequence[str]) -> dict[Group, Measures]:
        """Return the sums of each group of a period. Raise `UsageTooLargeError`."""
        query = self._query
        into: dict[Group, Measures] = {}
        if any(name.startswith(METADATA) for name in group_by):
            self._add_receipts(period, group_by, into, open_only=False)
            return into
        for table, part in _split(self._state, period):
            if part.start < part.end:
                store.sum_stored(
                    self._connection,
                    table,
                    query.filters,
                    part,
                    group_by,
                    with_latency=query.with_latency,
                    into=into,
                )
                _check_groups(into)
        self._add_receipts(period, group_by, into, open_only=True)
        return into

    def _list_groups(self, whole: Period) -> list[Group]:
        """Return every group with calls in the range, in order; without grouping the one."""
        if not self._query.group_by:
            return [()]
        return sorted(self.sum(whole, self._query.group_by), key=_order)

    def _add_receipts(
        self,
        period: Period,
        group_by: Sequence[str],
        into: dict[Group, Measures],
        *,
        open_only: bool,
    ) -> None:
        filters = self._query.filters
        picks = [_find_position(name) for name in group_by]
        rows = store.select_receipts(self._connection, filters, period, open_only=open_only)
        for number, row in enumerate(rows):
            if filters.model and name_model(row) != filters.model:
                continue
            if number >= RECEIPTS_MAX and not open_only:
                raise UsageTooLargeError(
                    f"Groups by metadata read the receipts, and the range has more than "
                    f"{RECEIPTS_MAX}. Use a shorter range or a filter.",
                    param="group_by",
                )
            group = _pick(row, picks)
            measures = into.get(group)
            if measures is None:
                measures = into[group] = Measures()
                _check_groups(into)
            measures.add_row(row)


def _find_position(name: str) -> int | str:
    """Return the position of a dimension, or the name of a metadata field."""
    return name.removeprefix(METADATA) if name.startswith(METADATA) else DIMENSIONS.index(name)


def _pick(row: Any, picks: Sequence[int | str]) -> Group:
    if not picks:
        return ()
    values = find_dimensions(row)
    metadata: dict[str, Any] | None = None
    group: list[Any] = []
    for pick in picks:
        if isinstance(pick, int):
            group.append(values[pick])
            continue
        if metadata is None:
            metadata = msgspec.json.decode(row.metadata or "{}", type=dict[str, Any])
        found = metadata.get(pick)
        group.append("" if found is None else str(found))
    return tuple(group)


def _check_groups(groups: dict[Group, Measures]) -> None:
    if len(groups) > GROUPS_MAX:
        raise UsageTooLargeError(
            f"The answer has more than {GROUPS_MAX} groups. Use a filter, a shorter range or fewer "
            "fields in `group_by`.",
            param="group_by",
        )


def _order(group: Group) -> tuple[str, ...]:
    return tuple(str(value) for value in group)


def _encode_cursor(row: UsageRow) -> str:
    place = msgspec.json.encode([row.period.start, _order(row.group)])
    return base64.urlsafe_b64encode(place).decode()


def _decode_cursor(cursor: str, start: int) -> tuple[int, Group | None]:
    if not cursor:
        return start, None
    try:
        place = msgspec.json.decode(
            base64.urlsafe_b64decode(cursor), type=tuple[int, tuple[str, ...]]
        )
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidUsageCursorError("The cursor cannot be read.", param="cursor") from error
    return place
