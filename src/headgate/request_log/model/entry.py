"""One row of the request log, which rows a list shows, and where its next page begins."""

from __future__ import annotations

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.kit.page_cursor import PageCursor

MICROSECONDS = 1_000_000
PENDING = "pending"
"""The outcome of a request whose response runs in the background."""
REPLAYED = "replayed"
"""The outcome of a request that was answered from the store of idempotency keys."""
TEXT_CHARACTERS_MAX = 1_000


class RequestNotFoundError(HeadgateError):
    """The request log has no request of this id that the key may see, or it was deleted by age.

    Use the id in the header `x-headgate-request-id` of the answer. The project must have kept a
    request log at that time.
    """

    kind = Kind.MISSING
    code = "request_not_found"


class RequestEntry(msgspec.Struct, frozen=True):
    """Hold what is kept of one request, in the column order of the table.

    `created_at` is its end, in microseconds of unix time. Durations are in microseconds, and -1 for
    what did not happen. Texts are empty where there is none. `outcome` is that of the receipt;
    `refused` without one, or `replayed` for an answer from the store of idempotency keys. `events`
    and `usage` are JSON, as is `metadata`. `payload` is 1 where the bodies are kept as well.
    """

    id: str
    created_at: int
    organization_id: str
    project_id: str
    key_id: str
    endpoint: str
    method: str
    path: str
    status: int
    outcome: str
    error_code: str = ""
    failure_reason: str = ""
    provider: str = ""
    model: str = ""
    model_served: str = ""
    credential_id: str = ""
    managed: int = 0
    resource_id: str = ""
    resource_name: str = ""
    streamed: int = 0
    attempts: int = 0
    events: str = ""
    usage: str = ""
    cost_nano: int = 0
    pricing: str = ""
    total_microseconds: int = -1
    gate_microseconds: int = -1
    routing_microseconds: int = -1
    first_byte_microseconds: int = -1
    upstream_microseconds: int = -1
    overhead_microseconds: int = -1
    request_bytes: int = 0
    response_bytes: int = 0
    client_address: str = ""
    user_agent: str = ""
    correlation_id: str = ""
    upstream_request_id: str = ""
    response_id: str = ""
    cache_status: str = ""
    metadata: str = ""
    payload: int = 0


class RequestFilter(msgspec.Struct, frozen=True, kw_only=True):
    """Filter the requests of an organization; None does not restrict.

    Times are in unix seconds: from `since`, before `until`. `projects` are those that the reader
    may see; empty for all. `model` is the requested or the served one, `resource` an id or a name.
    `failed` are requests with a status of 400 or more, or that broke off.
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
    resource: str | None = None
    endpoint: str | None = None
    outcome: str | None = None
    status: int | None = None
    failed: bool | None = None
    streamed: bool | None = None
    error_code: str | None = None
    client_address: str | None = None
    correlation_id: str | None = None
    upstream_request_id: str | None = None
    response_id: str | None = None
    metadata: tuple[str, str] | None = None
    total_min_microseconds: int | None = None


class RequestList(msgspec.Struct, frozen=True):
    """Hold a page of requests. With a `next` there may be more, also after an empty page: a page
    ends when it is full, or when enough rows were examined."""

    entries: list[RequestEntry]
    next: PageCursor | None
