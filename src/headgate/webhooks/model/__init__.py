"""Values and rules of webhook endpoints, events, deliveries and signatures."""

from headgate.webhooks.model.delivery import (
    Attempt,
    AttemptRecord,
    ClaimedDelivery,
    Delivery,
    DeliveryDetails,
    DeliveryFilter,
    DeliveryNotFoundError,
    DeliveryStatus,
    InvalidCursorError,
    choose_next_attempt,
)
from headgate.webhooks.model.endpoint import (
    EVERY_EVENT,
    DisabledReason,
    InvalidWebhookEndpointError,
    TooManyWebhookEndpointsError,
    UnknownWebhookEventError,
    WebhookEndpoint,
    WebhookEndpointDisabledError,
    WebhookEndpointNotFoundError,
    WebhookEndpointRequest,
)
from headgate.webhooks.model.event_names import EVENTS, TEST_EVENT

__all__ = [
    "EVENTS",
    "EVERY_EVENT",
    "TEST_EVENT",
    "Attempt",
    "AttemptRecord",
    "ClaimedDelivery",
    "Delivery",
    "DeliveryDetails",
    "DeliveryFilter",
    "DeliveryNotFoundError",
    "DeliveryStatus",
    "DisabledReason",
    "InvalidCursorError",
    "InvalidWebhookEndpointError",
    "TooManyWebhookEndpointsError",
    "UnknownWebhookEventError",
    "WebhookEndpoint",
    "WebhookEndpointDisabledError",
    "WebhookEndpointNotFoundError",
    "WebhookEndpointRequest",
    "choose_next_attempt",
]
