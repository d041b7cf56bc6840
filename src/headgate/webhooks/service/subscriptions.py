"""Who subscribed to which event, as of a transaction.

An event that is committed after an endpoint was registered must reach it, even if the process that
commits it has not heard of the endpoint yet. So the table in memory is used only while its revision
is the one that the transaction itself reads. Otherwise the transaction reads the endpoints.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import msgspec
import sqlalchemy as sa

from headgate.kit import outbox
from headgate.webhooks.model.endpoint import EVERY_EVENT, WebhookEndpoint
from headgate.webhooks.model.event_names import EVENTS
from headgate.webhooks.store import endpoints as endpoint_store

_EVERY_TOPIC = frozenset(EVENTS)


class EndpointSubscription(msgspec.Struct, frozen=True):
    """Hold what an enabled endpoint wants. With `ordered`, events of a key wait for each other."""

    endpoint_id: str
    organization_id: str
    topics: frozenset[str]
    ordered: bool


class SubscriptionTable:
    """Find the subscriptions to an event, as of a revision of the endpoints."""

    def __init__(self, revision: int, subscriptions: Iterable[EndpointSubscription]) -> None:
        """Take the subscriptions, those of the oldest endpoint first."""
        self.revision = revision
        of_organization: dict[str, list[EndpointSubscription]] = {}
        for each in subscriptions:
            of_organization.setdefault(each.organization_id, []).append(each)
        self._of_organization: Mapping[str, list[EndpointSubscription]] = of_organization
        self.wanted: frozenset[tuple[str, str]] = frozenset(
            (topic, organization_id)
            for organization_id, found in of_organization.items()
            for each in found
            for topic in each.topics
        )

    def find(self, topic: str, organization_id: str) -> list[EndpointSubscription]:
        """Return the subscriptions of an organization to a topic, the oldest endpoint first."""
        known = self._of_organization.get(organization_id, ())
        return [each for each in known if topic in each.topics]


class Subscriptions:
    """Read the subscriptions of a transaction. Several threads may do so at once."""

    def __init__(self) -> None:
        self._table = SubscriptionTable(-1, ())

    def read_wanted(self, connection: sa.Connection) -> outbox.WantedEvents:
        """Return the topics that somebody wants, each with the organization (`ReadWanted`)."""
        return self.read(connection).wanted

    def read(self, connection: sa.Connection) -> SubscriptionTable:
        """Return the subscriptions as this transaction sees them. Not its first statement."""
        revision = endpoint_store.read_version(connection)
        table = self._table
        if table.revision != revision:
            enabled = endpoint_store.select_enabled(connection)
            table = SubscriptionTable(revision, map(_to_subscription, enabled))
        return table

    def load(self, connection: sa.Connection) -> None:
        """Keep the subscriptions in memory. Only for a transaction that reads: what another one has
        changed may be rolled back, and its revision be given to another change."""
        self._table = self.read(connection)


def _to_subscription(endpoint: WebhookEndpoint) -> EndpointSubscription:
    is_every = EVERY_EVENT in endpoint.enabled_events
    topics = _EVERY_TOPIC if is_every else frozenset(endpoint.enabled_events)
    return EndpointSubscription(endpoint.id, endpoint.organization_id, topics, endpoint.ordered)
