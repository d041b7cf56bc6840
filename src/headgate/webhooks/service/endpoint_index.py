"""The enabled endpoints in memory: where deliveries go, and how they are signed."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import sqlalchemy as sa
import structlog
from standardwebhooks.webhooks import Webhook

from headgate.kit.crypto import BrokenSealError
from headgate.kit.http.message import Origin
from headgate.vault.model.sealed_row import WebhookSecretRow
from headgate.vault.service import Sealer, open_webhook_secret
from headgate.webhooks.model.endpoint import WebhookEndpoint, parse_destination
from headgate.webhooks.model.signature import parse_secret
from headgate.webhooks.store import endpoints as endpoint_store
from headgate.webhooks.store.endpoints import SecretRow

log = structlog.get_logger(__name__)

Signer = tuple[Webhook, float | None]
"""A signer, and when it ends (unix seconds)."""


class EndpointRoute(msgspec.Struct, frozen=True):
    """Hold what is needed to send to an endpoint. The newest signer is the first."""

    id: str
    organization_id: str
    origin: Origin
    target: bytes
    signers: tuple[Signer, ...]

    def find_signers(self, now: float) -> list[Webhook]:
        return [signer for signer, until in self.signers if until is None or now < until]


class EndpointIndex:
    """Hold the enabled endpoints of all organizations. `load` replaces everything at once."""

    def __init__(self) -> None:
        self.routes: Mapping[str, EndpointRoute] = {}
        """Enabled endpoints by id."""
        self.is_loaded = False
        self._signers: dict[str, Webhook] = {}

    def load(self, connection: sa.Connection, sealer: Sealer) -> None:
        """Read all enabled endpoints. One whose secret does not open is left out, and logged: its
        deliveries wait."""
        signers = self._load_signers(connection, sealer)
        routes: dict[str, EndpointRoute] = {}
        for endpoint in endpoint_store.select_enabled(connection):
            if endpoint.id not in signers:
                log.error("webhooks.secret_unreadable", endpoint=endpoint.id)
                continue
            routes[endpoint.id] = _make_route(endpoint, tuple(signers[endpoint.id]))
        self.routes = routes
        self.is_loaded = True

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
    return EndpointRoute(
        id=endpoint.id,
        organization_id=endpoint.organization_id,
        origin=origin,
        target=target,
        signers=signers,
    )
