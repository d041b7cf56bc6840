"""Options and values that several commands share."""

from __future__ import annotations

import datetime
import re
from pathlib import Path
from typing import Annotated

import typer

from headgate.kit.errors import HeadgateError, Kind

Data = Annotated[
    Path | None, typer.Option("--data", help="Data directory (HEADGATE_DATA, else ./data).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON for programs.")]

_SPAN = re.compile(r"(\d{1,6})([mhdw])")
_SECONDS = {"m": 60, "h": 3600, "d": 86_400, "w": 604_800}


class InvalidTimeError(HeadgateError):
    """A time on the command line cannot be read, or is in the future.

    Write a date such as `2026-01-31`, or an age such as `90d`.
    """

    kind = Kind.INVALID
    code = "invalid_time"


def parse_expiry(text: str | None, now: float) -> float | None:
    """Parse a span from now (`90d`, `12h`) or an ISO 8601 time (default UTC) to Unix seconds."""
    return None if text is None else _parse_time(text, now, sign=1)


def parse_past(text: str, now: float) -> float:
    """Parse a span before now (`90d`) or a past ISO 8601 time (default UTC) to Unix seconds."""
    at = _parse_time(text, now, sign=-1)
    if at > now:
        raise InvalidTimeError(f"{text!r} is in the future.")
    return at


def _parse_time(text: str, now: float, *, sign: int) -> float:
    span = _SPAN.fullmatch(text)
    if span is not None:
        return now + sign * int(span[1]) * _SECONDS[span[2]]
    try:
        moment = datetime.datetime.fromisoformat(text)
    except ValueError as error:
        message = (
            f"{text!r} is not a time: give a span such as 90d or 12h, or 2027-01-31T12:00:00Z."
        )
        raise InvalidTimeError(message) from error
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=datetime.UTC)
    return moment.timestamp()


def format_time(at: float | None) -> str:
    """Format a time in UTC to the minute, a dash for None."""
    if at is None:
        return "-"
    return datetime.datetime.fromtimestamp(at, datetime.UTC).strftime("%Y-%m-%d %H:%M")
