"""Days, hours and months of a time zone. Times are in microseconds since 1970.

Every boundary is rounded down to a quarter of an hour, which all zones of today keep by
themselves. So periods follow each other without gap and overlap, and consist of whole quarters.
"""

from __future__ import annotations

import datetime
import functools
from collections.abc import Iterator
from typing import Literal

import msgspec

from headgate.kit.time_zones import find_zone

MICROSECONDS = 1_000_000
QUARTER = 900 * MICROSECONDS
HOUR = 4 * QUARTER
DEFAULT_ZONE = "UTC"

Granularity = Literal["hour", "day", "month"]


class Period(msgspec.Struct, frozen=True):
    """Hold a span of time from `start` to before `end`."""

    start: int
    end: int


def floor_quarter(at: int) -> int:
    return at - at % QUARTER


def ceil_quarter(at: int) -> int:
    return -(-at // QUARTER) * QUARTER


def to_local(zone: str, at: int) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(at / MICROSECONDS, find_zone(zone))


@functools.lru_cache(maxsize=65_536)
def find_day(zone: str, quarter: int) -> Period:
    """Return the day that a time belongs to. `quarter` is a multiple of `QUARTER`."""
    date = to_local(zone, quarter).date()
    return Period(_start_of(zone, date), _start_of(zone, date + datetime.timedelta(days=1)))


def find_next_hour(zone: str, at: int) -> int:
    """Return the next time after `at` at which the local clock shows a whole hour."""
    offset = to_local(zone, at).utcoffset() or datetime.timedelta()
    shift = offset // datetime.timedelta(microseconds=1)
    return floor_quarter(at + HOUR - (at + shift) % HOUR)


def find_month(zone: str, at: int) -> Period:
    first = to_local(zone, at).date().replace(day=1)
    following = (first + datetime.timedelta(days=32)).replace(day=1)
    return Period(_start_of(zone, first), _start_of(zone, following))


def list_periods(
    zone: str, granularity: Granularity | None, start: int, end: int
) -> Iterator[Period]:
    """Yield the periods from `start` to `end` in order; the first and the last one may be parts.
    Without a granularity it is the one period of the whole range."""
    while start < end:
        stop = end
        if granularity == "hour":
            stop = find_next_hour(zone, start)
        elif granularity == "day":
            stop = find_day(zone, floor_quarter(start)).end
        elif granularity == "month":
            stop = find_month(zone, start).end
        yield Period(start, min(stop, end))
        start = stop


def find_whole_days(zone: str, start: int, end: int) -> Period:
    """Return the span of the whole days between two times; it is empty where there is none."""
    first = find_day(zone, floor_quarter(start))
    begin = first.start if first.start == start else first.end
    stop = find_day(zone, floor_quarter(end)).start
    return Period(begin, max(begin, stop))


def _start_of(zone: str, date: datetime.date) -> int:
    """Return the first moment of a date. Where the clock is set back over midnight, that is the
    second midnight; where midnight is skipped, it is the moment of the change."""
    info = find_zone(zone)
    for fold in (0, 1):
        moment = datetime.datetime(date.year, date.month, date.day, tzinfo=info, fold=fold)
        at = int(moment.timestamp()) * MICROSECONDS
        if to_local(zone, at).date() >= date:
            return floor_quarter(at)
    return floor_quarter(at)
