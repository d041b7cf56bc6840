"""Webhook endpoints and deliveries as the platform API reads and writes them."""

from __future__ import annotations

import datetime
from typing import Annotated, Any

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.schemas.fields import (
    Timestamp,
    build_response,
    to_datetime,
    to_optional_datetime,
)
from headgate.api.schemas.pages import Limit, Page
from headgate.webhooks.model import Delivery, DeliveryDetails, DeliveryStatus, WebhookEndpoint
from headgate.webhooks.service import OVERLAP_SECONDS, OVERLAP_SECONDS_MAX, IssuedWebhookEndpoint

Url = Annotated[str, Meta(min_length=1, max_length=2048)]
EventName = Annotated[str, Meta(min_length=1, max_length=64)]
EventNames = Annotated[list[EventName], Meta(min_length=1, max_length=64)]
Text = Annotated[str, Meta(max_length=1000)]


class WebhookEndpointCreate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A new webhook endpoint."""

    url: Url
    enabled_events: EventNames
    description: Text = ""
    ordered: bool = False


class WebhookEndpointUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A partial update; fields that are missing stay the same."""

    url: Url | UnsetType = UNSET
    enabled_events: EventNames | UnsetType = UNSET
    description: Text | UnsetType = UNSET
    ordered: bool | UnsetType = UNSET
    enabled: bool | UnsetType = UNSET


class WebhookRotationRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long deliveries carry signatures of both secrets."""

    overlap_seconds: Annotated[int, Meta(ge=0, le=OVERLAP_SECONDS_MAX)] = OVERLAP_SECONDS


class WebhookReplayRequest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The deliveries to send again: all that failed since a time."""

    since: Timestamp


class WebhookEndpointResponse(msgspec.Struct, kw_only=True):
    """A webhook endpoint without its secret."""

    id: str
    organization_id: str
    url: str
    enabled_events: list[str]
    description: str
    ordered: bool
    enabled: bool
    disabled_at: datetime.datetime | None
    disabled_reason: str | None
    failing_since: datetime.datetime | None
    created_at: datetime.datetime
    updated_at: datetime.datetime
    version: int


class IssuedWebhookEndpointResponse(WebhookEndpointResponse, kw_only=True):
    """A webhook endpoint with its new secret, which is shown only here."""

    secret: str


class WebhookEndpointPage(Page, kw_only=True):
    """A page of webhook endpoints, oldest first."""

    endpoints: list[WebhookEndpointResponse]


class WebhookDeliveryQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select deliveries of an endpoint."""

    limit: Limit = 100
    cursor: Annotated[str, Meta(max_length=200)] | None = None
    status: DeliveryStatus | None = None
    event_type: EventName | None = None


class WebhookDeliveryResponse(msgspec.Struct, kw_only=True):
    """A delivery of one event to one endpoint, with its last attempt."""

    id: str
    endpoint_id: str
    event_id: str
    event_type: str
    status: DeliveryStatus
    attempts: int
    status_code: int | None
    error: str
    latency_ms: float | None
    created_at: datetime.datetime
    attempted_at: datetime.datetime | None
    next_attempt_at: datetime.datetime | None


class WebhookAttemptResponse(msgspec.Struct):
    """One attempt of a delivery."""

    at: datetime.datetime
    status_code: int | None
    error: str
    latency_ms: float
    response_body: str


class WebhookDeliveryDetailsResponse(WebhookDeliveryResponse, kw_only=True):
    """A delivery with the body that is sent and its last attempts."""

    body: dict[str, Any]
    history: list[WebhookAttemptResponse]


class WebhookEventTypeResponse(msgspec.Struct):
    """An event that an endpoint can subscribe to."""

    name: str
    description: str


class WebhookEventTypeList(msgspec.Struct):
    """All events that an endpoint can subscribe to."""

    event_types: list[WebhookEventTypeResponse]


class WebhookDeliveryPage(msgspec.Struct):
    """A page of deliveries, newest first."""

    deliveries: list[WebhookDeliveryResponse]
    next_cursor: str | None


class WebhookReplayResponse(msgspec.Struct):
    """How many deliveries are sent again."""

    count: int


def to_endpoint_response(endpoint: WebhookEndpoint) -> WebhookEndpointResponse:
    return build_response(
        WebhookEndpointResponse,
        endpoint,
        enabled=endpoint.disabled_at is None,
        failing_since=to_optional_datetime(endpoint.failing_since),
    )


def to_issued_endpoint_response(issued: IssuedWebhookEndpoint) -> IssuedWebhookEndpointResponse:
    response = msgspec.structs.asdict(to_endpoint_response(issued.endpoint))
    return IssuedWebhookEndpointResponse(secret=issued.secret, **response)


def to_delivery_response(delivery: Delivery) -> WebhookDeliveryResponse:
    latency = delivery.latency_microseconds
    return build_response(
        WebhookDeliveryResponse,
        delivery,
        status=delivery.status,
        latency_ms=None if latency is None else latency / 1000,
    )


def to_delivery_details_response(details: DeliveryDetails) -> WebhookDeliveryDetailsResponse:
    response = msgspec.structs.asdict(to_delivery_response(details.delivery))
    history = [
        WebhookAttemptResponse(
            at=to_datetime(each.at),
            status_code=each.status_code,
            error=each.error,
            latency_ms=each.latency_microseconds / 1000,
            response_body=each.response_body,
        )
        for each in details.history
    ]
    body = msgspec.json.decode(details.body)
    return WebhookDeliveryDetailsResponse(body=body, history=history, **response)
