"""Calendar months in UTC, by which usage is invoiced."""

from __future__ import annotations

import re

from headgate.billing.model.budgets import name_month, start_of_month
from headgate.kit.errors import HeadgateError, Kind

MONTH = re.compile(r"(?:19[7-9]|[2-9][0-9]{2})[0-9]-(?:0[1-9]|1[0-2])")
GRACE_SECONDS = 600.0
"""How long after its end a month is invoiced, so that clocks that differ do not matter."""


class InvalidMonthError(HeadgateError):
    """The month cannot be read.

    Write a calendar month such as `2026-11`.
    """

    kind = Kind.INVALID
    code = "invalid_month"


class MonthNotClosedError(HeadgateError):
    """The month is not over yet, or calls of it are not settled, so that its total can change.

    Issue the invoice 10 minutes after the end of the month; open calls are settled when their lease
    ends, within minutes.
    """

    kind = Kind.CONFLICT
    code = "month_not_closed"


def check_month(text: str) -> str:
    """Return a month such as `2026-11`. Raise `InvalidMonthError`."""
    if not MONTH.fullmatch(text):
        raise InvalidMonthError(f"{text!r} is not a month such as 2026-11.", param="month")
    return text


def find_closed_month(now: float) -> str:
    """Return the newest month that may be invoiced."""
    return name_month(start_of_month(name_month(now - GRACE_SECONDS)) - 1)
