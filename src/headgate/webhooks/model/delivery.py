"""Deliveries: one for each event and endpoint, with its last attempt and its next one."""

from __future__ import annotations

import base64
import binascii
import enum

import msgspec

from headgate.kit.errors import HeadgateError, Kind

MICROSECONDS = 1_000_000
RETRY_SECONDS = (0, 5, 300, 1_800, 7_200, 18_000, 36_000, 50_400, 72_000, 86_400)
"""How long each attempt waits after the one before it; the example of Standard Webhooks."""
JITTER_RATIO = 0.1
RETRY_AFTER_MAX_SECONDS = 86_400.0
HISTORY_MAX = 20
"""Attempts that are kept of a delivery: those of two full schedules."""


class DeliveryNotFoundError(HeadgateError):
    """There is no such delivery at this webhook endpoint.

    List the deliveries of the endpoint to see their ids. Old ones are deleted after
    `HEADGATE_WEBHOOK_RETENTION_DAYS`.
    """

    kind = Kind.MISSING
    code = "webhook_delivery_not_found"


class InvalidCursorError(HeadgateError):
    """The cursor of a list is none that the API returned.

    Use `next_cursor` of the page before, unchanged, or leave it out.
    """

    kind = Kind.INVALID
    code = "invalid_cursor"


class DeliveryStatus(enum.Enum):
    PENDING = "pending"
    DELIVERED = "delivered"
    EXHAUSTED = "exhausted"
    """Every attempt failed, or the endpoint is gone; only a replay sends it again."""


class Delivery(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a delivery in the log. Times are in unix seconds.

    `attempts` have been made; `status_code`, `error` and `latency_microseconds` are of the last
    one.
    """

    id: str
    endpoint_id: str
    event_id: str
    event_type: str
    status: DeliveryStatus
    attempts: int
    status_code: int | None
    error: str
    latency_microseconds: int | None
    created_at: float
    attempted_at: float | None
    next_attempt_at: float | None


class AttemptRecord(msgspec.Struct, frozen=True, kw_only=True):
    """Represent a past attempt. `at` is in unix seconds. `response_body` is the beginning of the
    answer; empty if there was none, or one that was not read to its end."""

    at: float
    status_code: int | None
    error: str
    latency_microseconds: int
    response_body: str


class DeliveryDetails(msgspec.Struct, frozen=True, kw_only=True):
    """Hold a delivery, the body that is sent, and the last attempts, oldest first."""

    delivery: Delivery
    body: bytes
    history: tuple[AttemptRecord, ...]


class DeliveryFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Select deliveries of an endpoint. None does not restrict."""

    endpoint_id: str
    status: DeliveryStatus | None = None
    event_type: str | None = None


class ClaimedDelivery(msgspec.Struct, frozen=True):
    """Hold a delivery that this process has claimed, after so many attempts."""

    id: str
    endpoint_id: str
    event_id: str
    attempts: int
    body: bytes
    history: bytes | None = None
    """The attempts so far, as `extend_history` returns them."""


class Attempt(msgspec.Struct, frozen=True, kw_only=True):
    """Hold the result of one attempt. Times are in unix seconds.

    `next_at` is when to try again, None for never. `is_gone` says that the receiver wants no more.
    `counts` is false for an attempt that never left this machine for lack of its own resources.
    """

    delivery: ClaimedDelivery
    at: float
    status: DeliveryStatus
    status_code: int | None = None
    error: str = ""
    latency_microseconds: int = 0
    next_at: float | None = None
    is_gone: bool = False
    counts: bool = True
    response_body: str = ""

    def extend_history(self) -> bytes:
        """Return the last attempts of the delivery with this one, to be stored."""
        record = AttemptRecord(
            at=self.at,
            status_code=self.status_code,
            error=self.error,
            latency_microseconds=self.latency_microseconds,
            response_body=self.response_body,
        )
        return _encode((*parse_history(self.delivery.history), record)[-HISTORY_MAX:])


def parse_history(stored: bytes | None) -> tuple[AttemptRecord, ...]:
    """Return the stored attempts, oldest first."""
    return () if stored is None else _decode(stored)


_encode = msgspec.json.Encoder().encode
_decode = msgspec.json.Decoder(tuple[AttemptRecord, ...]).decode


def choose_next_attempt(
    attempts: int, *, now: float, random: float, retry_after_seconds: float = 0.0
) -> float | None:
    """Return when to try again after so many attempts, None if that was the last one.

    `random` is from 0 to 1 and chooses the jitter. The receiver's `Retry-After` can only make the
    wait longer.
    """
    if attempts >= len(RETRY_SECONDS):
        return None
    wait_seconds = RETRY_SECONDS[attempts] * (1 + JITTER_RATIO * (2 * random - 1))
    return now + max(wait_seconds, min(retry_after_seconds, RETRY_AFTER_MAX_SECONDS))


def encode_cursor(created_at: int, delivery_id: str) -> str:
    return base64.urlsafe_b64encode(f"{created_at}:{delivery_id}".encode()).decode().rstrip("=")


def decode_cursor(text: str) -> tuple[int, str]:
    """Return the time in microseconds and the id of a cursor. Raise `InvalidCursorError`."""
    try:
        decoded = base64.urlsafe_b64decode(text + "=" * (-len(text) % 4)).decode("ascii")
        created_at, mark, delivery_id = decoded.partition(":")
        if mark and delivery_id and len(created_at) < 18:
            return int(created_at), delivery_id
    except (ValueError, binascii.Error):
        pass
    raise InvalidCursorError("The cursor is none that this list returned.", param="cursor")
