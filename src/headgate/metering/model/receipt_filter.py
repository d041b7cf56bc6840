"""Which receipts a list shows, and where its next page begins."""

from __future__ import annotations

import msgspec

from headgate.kit.page_cursor import PageCursor
from headgate.relay.ports import Receipt

MICROSECONDS = 1_000_000


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


class ReceiptList(msgspec.Struct, frozen=True):
    """Hold a page of receipts. With a `next` there may be more, also after an empty page: a page
    ends when it is full, or when enough receipts were examined."""

    receipts: list[Receipt]
    next: PageCursor | None


def find_place(receipt: Receipt) -> PageCursor:
    return PageCursor(round(receipt.created_at * MICROSECONDS), receipt.request_id)
