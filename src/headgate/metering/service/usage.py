"""Answer how much was used: by day roll-ups, quarters of an hour at the edges, and the receipts
that are in no roll-up yet. All three are read in one transaction, so nothing counts twice.

Metadata are in no roll-up: queries that filter or group by them read the receipts.
"""

from __future__ import annotations

import base64
import itertools
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence

import msgspec
import sqlalchemy as sa

from headgate.accounts.service.accounts import find_reporting_zones
from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.time_zones import find_zone
from headgate.metering.model.usage import (
    DIMENSIONS,
    Group,
    Measures,
    UsageRangeError,
    UsageTooLargeError,
    find_dimensions,
)
from headgate.metering.model.usage_groups import build_picker, is_metadata
from headgate.metering.model.zones import (
    DEFAULT_ZONE,
    Granularity,
    Period,
    ceil_quarter,
    find_whole_days,
    floor_quarter,
    list_periods,
)
from headgate.metering.store import usage as store
from headgate.metering.store.usage import DAYS, QUARTERS, UsageFilter, ZoneState

GROUPS_MAX = 20_000
"""Sums that are made at a time, of groups and periods: each takes a kilobyte or two of memory."""
RECEIPTS_MAX = 250_000
"""Receipts read for metadata, which the roll-ups do not have: about two seconds of work."""
BATCH_ROWS = 2_000
"""Rows that are added up at a time, at least those of one period."""
BATCH_PERIODS_MAX = 100
_EMPTY = ZoneState("", DEFAULT_ZONE, 0)


class InvalidUsageCursorError(HeadgateError):
    """The cursor is none that this list has returned.

    Send the `next_cursor` of the last page, with the same filters.
    """

    kind = Kind.INVALID
    code = "invalid_cursor"


class UsageRequest(msgspec.Struct, frozen=True, kw_only=True):
    """Describe a query. `start` and `end` are in microseconds since 1970 and are widened to
    quarters of an hour. `group_by` has names of `DIMENSIONS` and `metadata.<name>`."""

    filters: UsageFilter
    start: int
    end: int
    zone: str = DEFAULT_ZONE
    granularity: Granularity | None = None
    group_by: tuple[str, ...] = ()
    cursor: str = ""
    limit: int = 100
    with_latency: bool = True

    @property
    def whole(self) -> Period:
        """Return the range that is added up. Raise `UsageRangeError`."""
        whole = Period(floor_quarter(self.start), ceil_quarter(self.end))
        if whole.start >= whole.end:
            raise UsageRangeError("`end` must be after `start`.", param="end")
        return whole

    @property
    def needs_receipts(self) -> bool:
        return bool(self.filters.metadata) or any(map(is_metadata, self.group_by))


class UsageRow(msgspec.Struct, frozen=True):
    period: Period
    group: Group
    measures: Measures


class UsageAnswer(msgspec.Struct, frozen=True):
    period: Period
    rows: list[UsageRow]
    total: Measures
    next_cursor: str | None


_Sums = dict[tuple[int, Group], Measures]
"""Sums by the start of the period, and the group."""


def find_zone_of(connection: sa.Connection, organization_id: str) -> str:
    """Return the reporting zone of an organization."""
    return find_reporting_zones(connection, organization_id).get(organization_id, DEFAULT_ZONE)


def query_usage(connection: sa.Connection, query: UsageRequest) -> UsageAnswer:
    """Return one page of rows by time and group, and the sum over the whole range. Periods and
    groups without calls have rows of zeros.

    Raise `UsageRangeError`, `UsageTooLargeError`, `UnknownZoneError` and
    `InvalidUsageCursorError`.
    """
    find_zone(query.zone)
    whole = query.whole
    reader = _Reader(connection, query)
    rows, next_cursor = reader.read_page(whole)
    is_whole = next_cursor is None and not query.cursor
    total = _add_up(row.measures for row in rows) if is_whole else reader.sum_total(whole)
    return UsageAnswer(whole, rows, total, next_cursor)


def read_page(connection: sa.Connection, query: UsageRequest) -> tuple[list[UsageRow], str | None]:
    """Return one page of rows and the cursor of the next one, as `query_usage` without the sum."""
    find_zone(query.zone)
    return _Reader(connection, query).read_page(query.whole)


def stream_usage(connection: sa.Connection, query: UsageRequest) -> Iterator[UsageRow]:
    """Yield all rows of a query after its cursor, for exports."""
    find_zone(query.zone)
    return _Reader(connection, query).list_rows(query.whole)


class _Reader:
    """Read sums for one query in one transaction."""

    def __init__(self, connection: sa.Connection, query: UsageRequest) -> None:
        self._connection = connection
        self._query = query
        organization_id = query.filters.organization_id
        self._state = store.find_state(connection, organization_id) or _EMPTY
        self._read: _Sums | None = None
        self._open: dict[Group, Measures] | None = None

    def read_page(self, whole: Period) -> tuple[list[UsageRow], str | None]:
        limit = self._query.limit
        rows = list(itertools.islice(self.list_rows(whole), limit + 1))
        if len(rows) <= limit:
            return rows, None
        rows.pop()
        return rows, _encode_cursor(rows[-1])

    def sum_total(self, whole: Period) -> Measures:
        """Return the sum of everything in the range."""
        query = self._query
        if query.granularity is not None and not query.needs_receipts:
            return self._sum([whole], ()).get((whole.start, ()), Measures())
        return _add_up(self._sum_batch([whole], whole).values())

    def list_rows(self, whole: Period) -> Iterator[UsageRow]:
        """Yield the rows after the cursor, by time and group. Raise `UsageTooLargeError`."""
        query = self._query
        after_start, after_group = _decode_cursor(query.cursor, whole)
        groups = self._list_groups(whole)
        periods = list_periods(query.zone, query.granularity, after_start, whole.end)
        while batch := list(itertools.islice(periods, self._find_batch_size(len(groups)))):
            sums = self._sum_batch(batch, whole)
            for period, group in itertools.product(batch, groups):
                is_done = period.start == after_start and after_group is not None
                if is_done and _order(group) <= _order(after_group or ()):
                    continue
                yield UsageRow(period, group, sums.get((period.start, group)) or Measures())

    def _find_batch_size(self, groups: int) -> int:
        """Return how many periods are added up at a time."""
        rows = min(BATCH_ROWS, self._query.limit + 1)
        return max(1, min(BATCH_PERIODS_MAX, rows // max(1, groups) + 1))

    def _list_groups(self, whole: Period) -> list[Group]:
        """Return every group with calls in the range, in order; without grouping the one."""
        query = self._query
        if not query.group_by:
            return [()]
        if query.granularity is None or query.needs_receipts:
            found = {group for _, group in self._sum_batch([whole], whole)}
        else:
            found = self._select_groups(whole)
        return sorted(found, key=_order)

    def _select_groups(self, whole: Period) -> set[Group]:
        query, found = self._query, _PeriodSums([whole])
        for table, part in _split(self._state, whole):
            groups = store.select_groups(
                self._connection, table, query.filters, part, query.group_by
            )
            for group in groups:
                found.find(whole.start, group)
        self._add_open(whole, query.group_by, found)
        return {group for _, group in found.sums}

    def _sum_batch(self, periods: Sequence[Period], whole: Period) -> _Sums:
        """Return the sums of each group of periods that follow each other."""
        query = self._query
        if query.needs_receipts:
            return self._once(lambda: self._sum_receipts(whole))
        if query.granularity is None:
            return self._once(lambda: self._sum([whole], query.group_by))
        is_own = query.zone == self._state.zone
        if query.granularity == "hour" or (query.granularity == "day" and not is_own):
            return self._sum(periods, query.group_by, state=_EMPTY)
        if is_own:
            return self._sum(periods, query.group_by)
        # A month may have whole days of the other zone in its middle.
        sums: _Sums = {}
        for period in periods:
            sums |= self._sum([period], query.group_by)
        return sums

    def _once(self, read: Callable[[], _Sums]) -> _Sums:
        """Return what is read once for total, groups and rows."""
        if self._read is None:
            self._read = read()
        return self._read

    def _sum(
        self,
        periods: Sequence[Period],
        group_by: Sequence[str],
        *,
        state: ZoneState | None = None,
    ) -> _Sums:
        """Return the sums of each group of periods that follow each other. The days of `state` are
        used, which must not reach over a boundary of the periods."""
        query, into = self._query, _PeriodSums(periods)
        span = Period(periods[0].start, periods[-1].end)
        for table, part in _split(state or self._state, span):
            if part.start < part.end:
                store.sum_stored(
                    self._connection,
                    table,
                    query.filters,
                    part,
                    group_by,
                    by_time=len(periods) > 1,
                    with_latency=query.with_latency,
                    find=into.find,
                )
        self._add_open(span, group_by, into)
        return into.sums

    def _add_open(self, span: Period, group_by: Sequence[str], into: _PeriodSums) -> None:
        """Add the receipts that are in no roll-up yet. They are read once, and added up by quarters
        of an hour like the others: no period begins within one."""
        query = self._query
        if self._open is None:
            self._open = {}
            receipts = store.select_receipts(
                self._connection, query.filters, query.whole, open_only=True
            )
            for row in receipts:
                key = (floor_quarter(row.created_at), *find_dimensions(row))
                measures = self._open.get(key)
                if measures is None:
                    measures = self._open[key] = Measures()
                measures.add_row(row)
        places = [DIMENSIONS.index(name) + 1 for name in group_by]
        for key, measures in self._open.items():
            if span.start <= key[0] < span.end:
                into.find(key[0], tuple(key[place] for place in places)).add(measures)

    def _sum_receipts(self, whole: Period) -> _Sums:
        """Return the sums of each period and group by one reading of the receipts. Raise
        `UsageTooLargeError`."""
        query = self._query
        into = _PeriodSums(
            list(list_periods(query.zone, query.granularity, whole.start, whole.end))
        )
        pick = build_picker(query.group_by)
        receipts = store.select_receipts(self._connection, query.filters, whole, open_only=False)
        for number, row in enumerate(receipts):
            if number >= RECEIPTS_MAX:
                raise UsageTooLargeError(
                    f"Metadata are read from the receipts, and the range has more than "
                    f"{RECEIPTS_MAX}. Use a shorter range or a filter.",
                    param="group_by",
                )
            into.find(row.created_at, pick(row)).add_row(row)
        return into.sums


class _PeriodSums:
    """Collect the sums of each period and group."""

    def __init__(self, periods: Sequence[Period]) -> None:
        self._starts = [period.start for period in periods]
        self.sums: _Sums = {}

    def find(self, at: int, group: Group) -> Measures:
        """Return the sums of the period of a time. Raise `UsageTooLargeError`."""
        key = (self._starts[bisect_right(self._starts, at) - 1], group)
        measures = self.sums.get(key)
        if measures is None:
            measures = self.sums[key] = Measures()
            if len(self.sums) > GROUPS_MAX:
                raise UsageTooLargeError(
                    f"The answer has more than {GROUPS_MAX} groups. Use a filter, a shorter range "
                    "or fewer fields in `group_by`.",
                    param="group_by",
                )
        return measures


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


def _add_up(some: Iterable[Measures]) -> Measures:
    total = Measures()
    for measures in some:
        total.add(measures)
    return total


def _order(group: Group) -> tuple[str, ...]:
    return tuple(str(value) for value in group)


def _encode_cursor(row: UsageRow) -> str:
    place = msgspec.json.encode([row.period.start, _order(row.group)])
    return base64.urlsafe_b64encode(place).decode()


def _decode_cursor(cursor: str, whole: Period) -> tuple[int, Group | None]:
    if not cursor:
        return whole.start, None
    try:
        place = msgspec.json.decode(
            base64.urlsafe_b64decode(cursor), type=tuple[int, tuple[str, ...]]
        )
    except (ValueError, msgspec.MsgspecError) as error:
        raise InvalidUsageCursorError("The cursor cannot be read.", param="cursor") from error
    if not whole.start <= place[0] < whole.end:
        message = "The cursor is of a query with another range."
        raise InvalidUsageCursorError(message, param="cursor")
    return place
