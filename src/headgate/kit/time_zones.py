"""Time zones by the names of the IANA database."""

from __future__ import annotations

import datetime
import functools
from zoneinfo import ZoneInfo, available_timezones

from headgate.kit.errors import HeadgateError, Kind

UTC = "UTC"
"""The one zone that is there on systems without a database of zones."""


class UnknownZoneError(HeadgateError):
    """The name of a time zone is unknown.

    Use a name of the IANA database, such as `Europe/Berlin` or `UTC`.
    """

    kind = Kind.INVALID
    code = "unknown_time_zone"


@functools.cache
def _list_names() -> frozenset[str]:
    return frozenset(available_timezones())


@functools.lru_cache(maxsize=1024)
def find_zone(name: str, *, param: str = "time_zone") -> datetime.tzinfo:
    """Return the zone of a name. Raise `UnknownZoneError`, which names the parameter `param`."""
    if name == UTC:
        return datetime.UTC
    if name not in _list_names():
        raise UnknownZoneError(
            f"There is no time zone {name[:100]!r}. Use an IANA name such as Europe/Berlin.",
            param=param,
        )
    return ZoneInfo(name)
