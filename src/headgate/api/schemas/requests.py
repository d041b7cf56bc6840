"""The request log as the platform API writes it."""

from __future__ import annotations

import datetime
from typing import Annotated, Any, cast

import msgspec
from msgspec import Meta

from headgate.api.schemas.fields import Timestamp, to_datetime, to_timestamp
from headgate.api.schemas.money import show_dollars
from headgate.request_log.model.entry import MICROSECONDS, RequestEntry, RequestFilter
from headgate.request_log.model.payload import Payload, StoredExchange
from headgate.request_log.model.replay import ReplayResult, ReplayTarget
from headgate.request_log.model.settings import (
    RETENTION_DAYS_MAX,
    Mode,
    RequestLogSettings,
)

Words = Annotated[str, Meta(min_length=1, max_length=200)]
MILLISECONDS = 1_000


class RequestSelection(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select requests by their fields."""

    project_id: Words | None = None
    key_id: Words | None = None
    credential_id: Words | None = None
    provider: Words | None = None
    model: Words | None = None
    resource: Words | None = None
    endpoint: Words | None = None
    outcome: Words | None = None
    status: Annotated[int, Meta(ge=0, le=999)] | None = None
    failed: bool | None = None
    streamed: bool | None = None
    error_code: Words | None = None
    client_address: Words | None = None
    correlation_id: Words | None = None
    upstream_request_id: Words | None = None
    response_id: Words | None = None
    metadata: Annotated[str, Meta(pattern=r"^[^:]{1,64}:", max_length=600)] | None = None
    total_ms_min: Annotated[int, Meta(ge=0, le=86_400_000)] | None = None

    def select(self, organization_id: str, *, projects: tuple[str, ...]) -> RequestFilter:
        """Return the filter of these requests, among the projects that the reader may see."""
        given = {name: getattr(self, name) for name in RequestSelection.__struct_fields__}
        least = given.pop("total_ms_min")
        name, _, value = (given.pop("metadata") or "").partition(":")
        return RequestFilter(
            organization_id=organization_id,
            projects=projects,
            metadata=(name, value) if name else None,
            total_min_microseconds=None if least is None else least * MILLISECONDS,
            **given,
        )


class RequestQuery(RequestSelection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select a page of requests."""

    limit: Annotated[int, Meta(ge=1, le=500)] = 100
    cursor: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    since: Timestamp | None = None
    until: Timestamp | None = None

    def select(self, organization_id: str, *, projects: tuple[str, ...]) -> RequestFilter:
        return msgspec.structs.replace(
            super().select(organization_id, projects=projects),
            since=to_timestamp(self.since),
            until=to_timestamp(self.until),
        )


class RequestTailQuery(RequestSelection, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select requests to follow."""

    seconds: Annotated[int, Meta(ge=1, le=3_600)] = 3_600


class RequestEventResponse(msgspec.Struct, kw_only=True, omit_defaults=True):
    """A decision about a request: a `fallback` to another target, or a `routing` to another
    model."""

    type: str
    at: datetime.datetime
    failed_model: str = ""
    failed_provider: str = ""
    failed_credential: str = ""
    failed_credential_id: str | None = None
    status: int = 0
    attempts: int = 0
    reason: str = ""
    original_provider: str = ""
    original_model: str = ""
    routed_provider: str = ""
    routed_model: str = ""


class RequestLatency(msgspec.Struct, kw_only=True):
    """Where the time of a request went, in milliseconds."""

    total_ms: float | None
    gate_ms: float | None
    routing_ms: float | None
    first_byte_ms: float | None
    upstream_ms: float | None
    overhead_ms: float | None


class RequestResponse(msgspec.Struct, kw_only=True):
    """One request to the model API: who asked what, and how it went."""

    id: str
    created_at: datetime.datetime
    project_id: str
    key_id: str
    endpoint: str
    method: str
    path: str
    status: int
    outcome: str
    error_code: str | None
    failure_reason: str | None
    provider: str | None
    model: str | None
    model_served: str | None
    credential_id: str | None
    managed: bool
    resource_id: str | None
    resource_name: str | None
    streamed: bool
    attempts: int
    events: list[RequestEventResponse]
    usage: dict[str, Any] | None
    cost: str
    currency: str
    pricing: str | None
    latency: RequestLatency
    request_bytes: int
    response_bytes: int
    client_address: str | None
    user_agent: str | None
    correlation_id: str | None
    upstream_request_id: str | None
    response_id: str | None
    cache_status: str | None
    metadata: dict[str, str]
    has_payload: bool


class RequestPage(msgspec.Struct):
    """A page of requests, newest first. With a `next_cursor` there may be more, also after an empty
    page."""

    requests: list[RequestResponse]
    next_cursor: str | None


class PayloadBody(msgspec.Struct, kw_only=True):
    """A body of a request or of an answer. `bytes` and `sha256` are those of the body as it
    came."""

    media_type: str
    bytes: int
    sha256: str
    is_exact: bool
    is_cut: bool
    attachments: int
    json: Any = None
    text: str | None = None


class RequestPayloadResponse(msgspec.Struct, kw_only=True):
    """The bodies of a request: what the client sent, what the provider got, what the client got."""

    id: str
    method: str
    target: str
    headers: list[tuple[str, str]]
    request: PayloadBody
    provider_target: str
    provider_request: PayloadBody | None
    status: int
    response_headers: list[tuple[str, str]]
    response: PayloadBody


class ReplayFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Where a request is sent again."""

    target: ReplayTarget = "simulator"
    credential: Words | None = None
    ignore: Annotated[list[Words], Meta(max_length=50)] = []


class DifferenceResponse(msgspec.Struct):
    """A place where two answers differ."""

    path: str
    recorded: Any
    replayed: Any


class ReplayResponse(msgspec.Struct, kw_only=True):
    """What a request was answered that was sent again."""

    request_id: str
    recorded_id: str
    target: ReplayTarget
    is_identical: bool
    matches: bool
    recorded_status: int
    replayed_status: int
    differences: list[DifferenceResponse]
    recorded: PayloadBody
    replayed: PayloadBody


class ResourceErrorRateQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select attempts of the last minutes."""

    window_minutes: Annotated[int, Meta(ge=1, le=60)] = 10
    status_code: Annotated[int, Meta(ge=100, le=599)] | None = None
    credential: Words | None = None
    model: Words | None = None


class ResourceErrorRateResponse(msgspec.Struct, kw_only=True):
    """The error rate of a window, from 0 to 1; 0 without attempts."""

    window_minutes: int
    attempts: int
    failed: int
    error_rate: float


class RequestLogFields(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """What a project keeps of its requests. What is absent stays as it is."""

    mode: Mode | None = None
    retention_days: Annotated[int, Meta(ge=1, le=RETENTION_DAYS_MAX)] | None = None


class RequestLogResponse(msgspec.Struct, kw_only=True):
    """What a project keeps of its requests."""

    project_id: str
    mode: Mode
    retention_days: int
    version: int


def to_request_response(entry: RequestEntry) -> RequestResponse:
    return RequestResponse(
        id=entry.id,
        created_at=to_datetime(entry.created_at / MICROSECONDS),
        project_id=entry.project_id,
        key_id=entry.key_id,
        endpoint=entry.endpoint,
        method=entry.method,
        path=entry.path,
        status=entry.status,
        outcome=entry.outcome,
        error_code=entry.error_code or None,
        failure_reason=entry.failure_reason or None,
        provider=entry.provider or None,
        model=entry.model or None,
        model_served=entry.model_served or None,
        credential_id=entry.credential_id or None,
        managed=bool(entry.managed),
        resource_id=entry.resource_id or None,
        resource_name=entry.resource_name or None,
        streamed=bool(entry.streamed),
        attempts=entry.attempts,
        events=read_events(entry.events),
        usage=msgspec.json.decode(entry.usage) if entry.usage else None,
        cost=show_dollars(entry.cost_nano),
        currency="USD",
        pricing=entry.pricing or None,
        latency=RequestLatency(
            total_ms=to_ms(entry.total_microseconds),
            gate_ms=to_ms(entry.gate_microseconds),
            routing_ms=to_ms(entry.routing_microseconds),
            first_byte_ms=to_ms(entry.first_byte_microseconds),
            upstream_ms=to_ms(entry.upstream_microseconds),
            overhead_ms=to_ms(entry.overhead_microseconds),
        ),
        request_bytes=entry.request_bytes,
        response_bytes=entry.response_bytes,
        client_address=entry.client_address or None,
        user_agent=entry.user_agent or None,
        correlation_id=entry.correlation_id or None,
        upstream_request_id=entry.upstream_request_id or None,
        response_id=entry.response_id or None,
        cache_status=entry.cache_status or None,
        metadata=msgspec.json.decode(entry.metadata) if entry.metadata else {},
        has_payload=bool(entry.payload),
    )


def read_events(events: str) -> list[RequestEventResponse]:
    stored = cast("list[dict[str, Any]]", msgspec.json.decode(events) if events else [])
    return [
        RequestEventResponse(
            at=to_datetime(each["at"]),
            **{
                name: each[name]
                for name in RequestEventResponse.__struct_fields__
                if name != "at" and name in each
            },
        )
        for each in stored
    ]


def to_ms(microseconds: int) -> float | None:
    return microseconds / MILLISECONDS if microseconds >= 0 else None


def to_payload_response(entry: RequestEntry, stored: StoredExchange) -> RequestPayloadResponse:
    return RequestPayloadResponse(
        id=entry.id,
        method=stored.method,
        target=stored.target,
        headers=list(stored.headers),
        request=to_payload_body(stored.request),
        provider_target=stored.sent_target,
        provider_request=None if stored.sent is None else to_payload_body(stored.sent),
        status=stored.status,
        response_headers=list(stored.response_headers),
        response=to_payload_body(stored.response),
    )


def to_payload_body(payload: Payload) -> PayloadBody:
    """Return a body for a reader: JSON as JSON, other texts as text."""
    body = PayloadBody(
        media_type=payload.media_type,
        bytes=payload.size,
        sha256=payload.sha256,
        is_exact=payload.is_exact,
        is_cut=payload.is_cut,
        attachments=payload.attachments,
    )
    if payload.body is None:
        return body
    if not payload.is_cut and payload.body[:1] in (b"{", b"["):
        try:
            body.json = msgspec.json.decode(payload.body)
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            body.text = payload.body.decode("utf-8", "replace")
        return body
    body.text = payload.body.decode("utf-8", "replace")
    return body


def to_replay_response(result: ReplayResult) -> ReplayResponse:
    return ReplayResponse(
        request_id=result.request_id,
        recorded_id=result.recorded_id,
        target=result.target,
        is_identical=result.is_identical,
        matches=result.matches,
        recorded_status=result.recorded_status,
        replayed_status=result.replayed_status,
        differences=[
            DifferenceResponse(each.path, each.recorded, each.replayed)
            for each in result.differences
        ],
        recorded=to_payload_body(result.recorded),
        replayed=to_payload_body(result.replayed),
    )


def to_request_log_response(project_id: str, settings: RequestLogSettings) -> RequestLogResponse:
    return RequestLogResponse(
        project_id=project_id,
        mode=settings.mode,
        retention_days=settings.retention_days,
        version=settings.version,
    )
