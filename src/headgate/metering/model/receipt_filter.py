"""Which receipts a list shows, and where its next page begins."""

from __future__ import annotations

import re

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.ports import Receipt

MICROSECONDS = 1_000_000
_CURSOR = re.compile(r"(?P<created_at>[0-9]{1,17})\.(?P<request_id>[\x21-\x7e]{0,128})")


class InvalidReceiptCursorError(HeadgateError):
    """The cursor of a page of receipts cannot be read.

    Send the `next_cursor` of the page before, unchanged, or none for the first page.
    """

    kind = Kind.INVALID
    code = "invalid_cursor"


class ReceiptFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Filter the receipts of an organization; None does not restrict.

    Times are in unix seconds: from `since`, before `until`. `model` is the requested or the served
    one. `projects` are those that the reader may see; empty for all. `name` is any id of the call
    beside its request id: the caller's own, the provider's, or that of the answer.
    """

    organization_id: str
    since: float | None = None
    until: float | None = None
    projects: tuple[str, ...] = ()
    project_id: str | None = None
    key_id: str | None = None
    credential_id: str | None = None
    provider: str | None = None
    model: str | None = None
    endpoint: str | None = None
    outcome: str | None = None
    pricing: str | None = None
    status: int | None = None
    managed: bool | None = None
    streamed: bool | None = None
    cache_status: str | None = None
    cost_min_nano: int | None = None
    cost_max_nano: int | None = None
    metadata: tuple[str, str] | None = None
    correlation_id: str | None = None
    upstream_request_id: str | None = None
    response_id: str | None = None
    name: str | None = None


class ReceiptCursor(msgspec.Struct, frozen=True):
    """Hold the place after which a page begins, newest first. `created_at` is in microseconds; an
    empty `request_id` skips everything of that microsecond."""

    created_at: int
    request_id: str = ""

    def __str__(self) -> str:
        return f"{self.created_at}.{self.request_id}"


class ReceiptList(msgspec.Struct, frozen=True):
    """Hold a page of receipts. With a `next` there may be more, also after an empty page: a page
    ends when it is full, or when enough receipts were examined."""

    receipts: list[Receipt]
    next: ReceiptCursor | None


def parse_cursor(text: str) -> ReceiptCursor:
    """Parse the cursor of a page. Raise `InvalidReceiptCursorError`."""
    found = _CURSOR.fullmatch(text)
    if found is None:
        raise InvalidReceiptCursorError(
            "The cursor is not one of this list: send the `next_cursor` of the page before.",
            param="cursor",
        )
    return ReceiptCursor(int(found["created_at"]), found["request_id"])


def find_place(receipt: Receipt) -> ReceiptCursor:
    return ReceiptCursor(round(receipt.created_at * MICROSECONDS), receipt.request_id)
