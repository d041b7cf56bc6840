"""What a project keeps of its requests."""

from __future__ import annotations

from typing import Literal

import msgspec

from headgate.kit.errors import HeadgateError, Kind

Mode = Literal["off", "metadata", "full"]
MODES: tuple[Mode, ...] = ("off", "metadata", "full")
RETENTION_DAYS = 30
RETENTION_DAYS_MAX = 3_650


class InvalidRequestLogError(HeadgateError):
    """The settings of a request log are outside of their bounds.

    Choose `off`, `metadata` or `full`, and keep requests for 1 to 3,650 days.
    """

    kind = Kind.UNPROCESSABLE
    code = "invalid_request_log"


class RequestLogSettings(msgspec.Struct, frozen=True):
    """Say what a project keeps: nothing (`off`), one row for each request (`metadata`), or the
    bodies as well (`full`); and for how many days."""

    mode: Mode = "off"
    retention_days: int = RETENTION_DAYS
    version: int = 0


def check_settings(settings: RequestLogSettings) -> RequestLogSettings:
    """Return the settings. Raise `InvalidRequestLogError`."""
    if settings.mode not in MODES:
        message = f"The mode of a request log is one of {', '.join(MODES)}."
        raise InvalidRequestLogError(message, param="mode")
    if not 1 <= settings.retention_days <= RETENTION_DAYS_MAX:
        message = f"Requests are kept for 1 to {RETENTION_DAYS_MAX:,} days."
        raise InvalidRequestLogError(message, param="retention_days")
    return settings
