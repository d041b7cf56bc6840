"""Operations on endpoints and deliveries, and the index of who subscribed to what."""

from headgate.webhooks.service.endpoint_index import (
    EndpointIndex,
    EndpointRoute,
)
from headgate.webhooks.service.endpoints import (
    OVERLAP_SECONDS,
    OVERLAP_SECONDS_MAX,
    PURPOSE,
    IssuedWebhookEndpoint,
    WebhookService,
)
from headgate.webhooks.service.subscriptions import (
    EndpointSubscription,
    Subscriptions,
    SubscriptionTable,
)
from headgate.webhooks.store.endpoints import TOPIC

__all__ = [
    "OVERLAP_SECONDS",
    "OVERLAP_SECONDS_MAX",
    "PURPOSE",
    "TOPIC",
    "EndpointIndex",
    "EndpointRoute",
    "EndpointSubscription",
    "IssuedWebhookEndpoint",
    "SubscriptionTable",
    "Subscriptions",
    "WebhookService",
]
