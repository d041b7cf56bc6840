"""The events that webhooks publish in the outbox."""

from __future__ import annotations

from typing import ClassVar

import msgspec


class WebhookTest(msgspec.Struct, frozen=True):
    type: ClassVar[str] = "webhook.test"

    organization_id: str
    endpoint_id: str
    message: str


class WebhookEndpointDisabled(msgspec.Struct, frozen=True):
    """Announce that Headgate itself disabled an endpoint. `reason` is `gone` or `failing`."""

    type: ClassVar[str] = "webhook.endpoint_disabled"

    organization_id: str
    endpoint_id: str
    url: str
    reason: str
    failing_since: float | None
    disabled_at: float


class RequestRateLimited(msgspec.Struct, frozen=True):
    """Announce refusals of one key with 429. `request_id` is of the first one of `count`."""

    type: ClassVar[str] = "request.rate_limited"

    organization_id: str
    project_id: str
    key_id: str
    request_id: str
    code: str
    message: str
    count: int
    first_at: float
    last_at: float
