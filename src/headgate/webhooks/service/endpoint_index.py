"""The enabled endpoints in memory: who subscribed to which event, and how deliveries are signed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec
import sqlalchemy as sa
import structlog
from standardwebhooks.webhooks import Webhook

from headgate.kit.crypto import BrokenSealError
from headgate.kit.http.message import Origin
from headgate.vault.model.sealed_row import WebhookSecretRow
from headgate.vault.service import Sealer, open_webhook_secret
from headgate.webhooks.model.endpoint import EVERY_EVENT, WebhookEndpoint, parse_destination
from headgate.webhooks.model.event_names import EVENTS
from headgate.webhooks.model.signature import parse_secret
from headgate.webhooks.store import endpoints as endpoint_store
from headgate.webhooks.store.endpoints import SecretRow

log = structlog.get_logger(__name__)

Signer = tuple[Webhook, float | None]
"""A signer, and when it ends (unix seconds)."""


class Subscribed(Protocol):
    """Tell whether any endpoint wants the events of a topic: of one organization, or of any."""

    def __call__(self, topic: str, organization_id: str | None = None, /) -> bool: ...


def nobody_subscribed(_topic: str, _organization_id: str | None = None, /) -> bool:
    return False


def everybody_subscribed(_topic: str, _organization_id: str | None = None, /) -> bool:
    return True


class EndpointRoute(msgspec.Struct, frozen=True):
    """Hold what is needed to send to an endpoint. The newest signer is the first."""

    id: str
    organization_id: str
    origin: Origin
    target: bytes
    events: frozenset[str]
    ordered: bool
    signers: tuple[Signer, ...]

    def find_signers(self, now: float) -> list[Webhook]:
        return [signer for signer, until in self.signers if until is None or now < until]


class EndpointIndex:
    """Find enabled endpoints by event. `load` replaces everything at once."""

    def __init__(self) -> None:
        self.routes: Mapping[str, EndpointRoute] = {}
        """Enabled endpoints by id."""
        self._of_organization: Mapping[str, tuple[EndpointRoute, ...]] = {}
        self._topics: frozenset[str] = frozenset(EVENTS)
        self._wanted: frozenset[tuple[str, str]] | None = None
        self._signers: dict[str, Webhook] = {}

    @property
    def is_loaded(self) -> bool:
        return self._wanted is not None

    def subscribed(self, topic: str, organization_id: str | None = None, /) -> bool:
        """Return whether an endpoint wants this event. Before the first `load`, as in a command,
        nobody knows, and every event is stored; the dispatcher drops what nobody wants."""
        if organization_id is None or self._wanted is None:
            return topic in self._topics
        return (topic, organization_id) in self._wanted

    def find(self, topic: str, organization_id: str) -> list[EndpointRoute]:
        """Return the endpoints of an organization that want the event, the oldest first."""
        of_organization = self._of_organization.get(organization_id, ())
        return [route for route in of_organization if topic in route.events]

    def load(self, connection: sa.Connection, sealer: Sealer) -> None:
        """Read all enabled endpoints. One whose secret does not open is left out, and logged."""
        signers = self._load_signers(connection, sealer)
        routes: dict[str, EndpointRoute] = {}
        of_organization: dict[str, tuple[EndpointRoute, ...]] = {}
        for endpoint in endpoint_store.select_enabled(connection):
            if endpoint.id not in signers:
                log.error("webhooks.secret_unreadable", endpoint=endpoint.id)
                continue
            route = _make_route(endpoint, tuple(signers[endpoint.id]))
            routes[endpoint.id] = route
            known = of_organization.get(route.organization_id, ())
            of_organization[route.organization_id] = (*known, route)
        self.routes, self._of_organization = routes, of_organization
        self._wanted = frozenset(
            (topic, route.organization_id) for route in routes.values() for topic in route.events
        )
        self._topics = frozenset(topic for topic, _ in self._wanted)

    def _load_signers(self, connection: sa.Connection, sealer: Sealer) -> dict[str, list[Signer]]:
        keys = None
        opened: dict[str, Webhook] = {}
        signers: dict[str, list[Signer]] = {}
        for row in endpoint_store.select_secrets(connection):
            signer = self._signers.get(row.id)
            if signer is None:
                keys = sealer.organization_keys(connection) if keys is None else keys
                try:
                    secret = open_webhook_secret(keys[row.key_id], row.sealed, to_bound(row))
                except (BrokenSealError, KeyError):
                    continue
                signer = parse_secret(secret)
            opened[row.id] = signer
            signers.setdefault(row.endpoint_id, []).append((signer, row.expires_at))
        self._signers = opened
        return signers


def to_bound(row: SecretRow) -> WebhookSecretRow:
    """Return the fields that the seal of a secret is bound to."""
    return msgspec.convert(row, WebhookSecretRow, from_attributes=True)


def _make_route(endpoint: WebhookEndpoint, signers: tuple[Signer, ...]) -> EndpointRoute:
    origin, target = parse_destination(endpoint.url)
    is_every = EVERY_EVENT in endpoint.enabled_events
    return EndpointRoute(
        id=endpoint.id,
        organization_id=endpoint.organization_id,
        origin=origin,
        target=target,
        events=frozenset(EVENTS) if is_every else frozenset(endpoint.enabled_events),
        ordered=endpoint.ordered,
        signers=signers,
    )
