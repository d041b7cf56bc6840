"""Classify the error responses of providers, and read how long they ask to wait."""

from __future__ import annotations

import enum
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import cast

import msgspec

MESSAGE_CHARACTERS_MAX = 2000

CREDENTIAL_REJECTED = "provider_rejected_credential"
"""The code of an error about the gateway's credential, not about the caller's key."""
REJECTED_STATUS = frozenset({401, 403})

_QUOTA_CODES = frozenset(
    {
        "insufficient_quota",
        "billing_hard_limit_reached",
        "billing_not_active",
        "account_deactivated",
        "access_terminated",
        "quota_exceeded",
    }
)
_NUMBER = re.compile(r"\d{1,9}(?:\.\d{1,9})?")
_DURATION = re.compile(
    r"(?=\d)(?:(\d{1,6})d)?(?:(\d{1,6})h)?(?:(\d{1,9})m(?!s))?"
    r"(?:(\d{1,9}(?:\.\d{1,9})?)s)?(?:(\d{1,9}(?:\.\d{1,9})?)ms)?"
)
_DURATION_SECONDS = (86400, 3600, 60, 1, 0.001)
_HTTP_DATE = re.compile(r"[A-Z][a-z]{2}, (\d\d) ([A-Z][a-z]{2}) (\d{4}) (\d\d):(\d\d):(\d\d) GMT")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


class ErrorCategory(enum.Enum):
    RATE = "rate"
    """Rate limited: a later try may succeed."""
    QUOTA = "quota"
    """The provider account has no quota left: a retry is pointless."""
    AUTH = "auth"
    """The credential is rejected, or lacks a permission."""
    CLIENT = "client"
    """The request is invalid: the same one fails again."""
    SERVER = "server"
    """The provider failed or is overloaded: another try may succeed."""


class ProviderErrorResponse(msgspec.Struct, frozen=True):
    """Hold a provider's error response; texts are empty where it stated none."""

    status: int
    category: ErrorCategory
    code: str
    type: str
    message: str


def classify(status: int, body: bytes) -> ProviderErrorResponse:
    """Parse an error response (status 400 and up) of any shape."""
    error = _find_error(body)
    code, kind = _read_text(error, "code"), _read_text(error, "type")
    return ProviderErrorResponse(
        status=status,
        category=_categorize(status, code, kind),
        code=code,
        type=kind,
        message=(_read_text(error, "message") or _read_text(error, "detail"))[
            :MESSAGE_CHARACTERS_MAX
        ],
    )


def find_recorded_code(status: int, body: bytes) -> str | None:
    """Return the code under which an error response is recorded; None where it has none."""
    if status in REJECTED_STATUS:
        return CREDENTIAL_REJECTED
    return classify(status, body).code or None


def parse_retry_after(headers: Sequence[tuple[bytes, bytes]], now: float) -> float | None:
    """Return the seconds to wait by `retry-after-ms`, else `retry-after` (seconds or a date).

    `now` is Unix time; names are in lower case. None where neither is present and valid; 0 for a
    date in the past. There is no upper bound: the caller sets one.
    """
    found = {name: value.decode("latin-1").strip() for name, value in headers}
    milliseconds = found.get(b"retry-after-ms", "")
    if _NUMBER.fullmatch(milliseconds):
        return float(milliseconds) / 1000
    value = found.get(b"retry-after", "")
    if _NUMBER.fullmatch(value):
        return float(value)
    date = _parse_date(value)
    return None if date is None else max(0.0, date - now)


def parse_reset(headers: Sequence[tuple[bytes, bytes]]) -> float | None:
    """Return the seconds until OpenAI's rate limits (requests, tokens) are full, if stated."""
    resets = [
        parse_duration(value.decode("latin-1").strip())
        for name, value in headers
        if name in (b"x-ratelimit-reset-requests", b"x-ratelimit-reset-tokens")
    ]
    return max((reset for reset in resets if reset is not None), default=None)


def parse_duration(text: str) -> float | None:
    """Return the seconds of a duration like `6m0s`, `1h2m3s` or `120ms`; None for other texts."""
    match = _DURATION.fullmatch(text)
    if match is None:
        return None
    return sum(
        float(part) * seconds
        for part, seconds in zip(match.groups(), _DURATION_SECONDS, strict=True)
        if part
    )


def _categorize(status: int, code: str, kind: str) -> ErrorCategory:
    if status == 402 or code in _QUOTA_CODES or kind in _QUOTA_CODES:
        return ErrorCategory.QUOTA
    if status == 429:
        return ErrorCategory.RATE
    if status in (401, 403):
        return ErrorCategory.AUTH
    return ErrorCategory.SERVER if status >= 500 or status == 408 else ErrorCategory.CLIENT


def _find_error(body: bytes) -> dict[str, object]:
    """Return the error object: under `error`, the body itself, or the first of a list of bodies."""
    try:
        value: object = msgspec.json.decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return {}
    if isinstance(value, list) and value:
        value = cast("list[object]", value)[0]
    if not isinstance(value, dict):
        return {}
    fields = cast("dict[str, object]", value)
    error = fields.get("error")
    if isinstance(error, str):
        return {**fields, "message": error}
    return cast("dict[str, object]", error) if isinstance(error, dict) else fields


def _read_text(error: dict[str, object], name: str) -> str:
    value = error.get(name)
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    return str(value)


def _parse_date(text: str) -> float | None:
    match = _HTTP_DATE.fullmatch(text)
    if match is None or match[2] not in _MONTHS:
        return None
    day, year, hour, minute, second = (int(match[i]) for i in (1, 3, 4, 5, 6))
    month = _MONTHS.index(match[2]) + 1
    try:
        return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    except ValueError:
        return None
