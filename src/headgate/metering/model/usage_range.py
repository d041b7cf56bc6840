"""The range of time of a query, as days or times that people write."""

from __future__ import annotations

import datetime

from headgate.kit.time_zones import find_zone
from headgate.metering.model.receipts import MICROSECONDS
from headgate.metering.model.usage import UsageRangeError
from headgate.metering.model.zones import find_month, floor_quarter

RANGE_DAYS_MAX = 3_660
YEARS = (2000, 2200)
_DAY = len("2026-01-31")


def read_range(start: str, end: str, *, zone: str, now: float) -> tuple[int, int]:
    """Return start and end in microseconds since 1970. By default it is the month until now. Raise
    `UsageRangeError` and `UnknownZoneError`."""
    find_zone(zone)
    to = read_time("end", end, zone, is_end=True) if end else int(now * MICROSECONDS)
    since = find_month(zone, floor_quarter(to - 1)).start
    if start:
        since = read_time("start", start, zone, is_end=False)
    if to <= since:
        raise UsageRangeError("`end` must be after `start`.", param="end")
    if to - since > RANGE_DAYS_MAX * 86_400 * MICROSECONDS:
        raise UsageRangeError(f"The range has at most {RANGE_DAYS_MAX} days.", param="start")
    return since, to


def read_time(name: str, text: str, zone: str, *, is_end: bool) -> int:
    """Return a time in microseconds since 1970. A day without a time is one of the zone; as an end
    it is included. Raise `UsageRangeError`, which names the parameter `name`."""
    try:
        if len(text) == _DAY:
            day = datetime.date.fromisoformat(text) + datetime.timedelta(days=is_end)
            at = datetime.datetime.combine(day, datetime.time(), find_zone(zone))
        else:
            at = datetime.datetime.fromisoformat(text)
        if at.tzinfo is None:
            at = at.replace(tzinfo=find_zone(zone))
    except (ValueError, OverflowError) as error:
        message = f"{text!r} is no day (2026-01-31) and no time in RFC 3339 format."
        raise UsageRangeError(message, param=name) from error
    if not YEARS[0] <= at.year <= YEARS[1]:
        raise UsageRangeError(f"Times are between the years {YEARS[0]} and {YEARS[1]}.", param=name)
    return round(at.timestamp() * MICROSECONDS)
