"""Register, change, rotate, test and replay: what people and programs do with endpoints."""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from typing import Any

import msgspec
import sqlalchemy as sa
from msgspec.structs import replace

from headgate.audit.model import SYSTEM, Actor, AuditEvent
from headgate.audit.service import AuditLog
from headgate.kit import outbox
from headgate.kit.clock import Clock
from headgate.kit.http.errors import ConnectError, ForbiddenAddressError
from headgate.kit.http.guard import EgressRules, Guard, Lookup
from headgate.kit.ids import IdGenerator
from headgate.vault.model.sealed_row import WebhookSecretRow
from headgate.vault.service import Sealer, seal_webhook_secret
from headgate.webhooks.events import WebhookEndpointDisabled, WebhookTest
from headgate.webhooks.model.delivery import (
    MICROSECONDS,
    Delivery,
    DeliveryDetails,
    DeliveryFilter,
    DeliveryNotFoundError,
    decode_cursor,
    encode_cursor,
)
from headgate.webhooks.model.endpoint import (
    DisabledReason,
    InvalidWebhookEndpointError,
    TooManyWebhookEndpointsError,
    WebhookEndpoint,
    WebhookEndpointDisabledError,
    WebhookEndpointNotFoundError,
    WebhookEndpointRequest,
    check_description,
    check_events,
    parse_destination,
)
from headgate.webhooks.model.event import parse_event
from headgate.webhooks.model.signature import make_secret
from headgate.webhooks.service.fan_out import make_delivery_row
from headgate.webhooks.store import deliveries as delivery_store
from headgate.webhooks.store import endpoints as endpoint_store

PURPOSE = "webhooks"
"""The egress rule of deliveries, and the reason that their connections serve nothing else."""
OVERLAP_SECONDS = 86_400
OVERLAP_SECONDS_MAX = 7 * 86_400
DELETED_AT_ONCE_ROWS = 1_000
"""Deliveries that go together with their endpoint; the pruning job deletes the others."""

_NEVER_CHANGED = frozenset({"id", "organization_id", "created_at"})
_encode = msgspec.json.Encoder().encode


class IssuedWebhookEndpoint(msgspec.Struct, frozen=True):
    """Hold an endpoint with its new secret, which is shown only here."""

    endpoint: WebhookEndpoint
    secret: str

    def __repr__(self) -> str:
        return f"IssuedWebhookEndpoint({self.endpoint!r})"


class WebhookService:
    """Manage endpoints and their deliveries. The caller commits."""

    def __init__(
        self,
        sealer: Sealer,
        *,
        egress_rules: EgressRules,
        clock: Clock,
        ids: IdGenerator,
        audit: AuditLog,
        endpoints_max: int = 100,
        read_wanted: outbox.ReadWanted = outbox.want_nothing,
        lookup: Lookup | None = None,
    ) -> None:
        """Take `lookup` to resolve the names of new URLs; None leaves that to the deliveries."""
        self._sealer = sealer
        self._rule = egress_rules.find(PURPOSE)
        self._guard = None if lookup is None else Guard(egress_rules, lookup)
        self._clock = clock
        self._ids = ids
        self._audit = audit
        self._read_wanted = read_wanted
        self.endpoints_max = endpoints_max
        """The maximum number of endpoints of an organization."""

    def create(
        self, connection: sa.Connection, request: WebhookEndpointRequest, *, by: Actor
    ) -> IssuedWebhookEndpoint:
        """Register an endpoint, and return it with its secret.

        Raise `InvalidWebhookEndpointError`, `UnknownWebhookEventError` and
        `TooManyWebhookEndpointsError`.
        """
        now = self._clock.now()
        self._check_url(request.url)
        # First: concurrent writers wait here, and then count this endpoint.
        endpoint_store.note_change(connection)
        _, total = endpoint_store.select_endpoints(
            connection, request.organization_id, limit=1, offset=0
        )
        if total >= self.endpoints_max:
            raise TooManyWebhookEndpointsError(
                f"The organization has the maximum of {self.endpoints_max} webhook endpoints."
            )
        endpoint = WebhookEndpoint(
            id=f"whe_{secrets.token_hex(12)}",
            organization_id=request.organization_id,
            url=request.url,
            enabled_events=check_events(request.enabled_events),
            description=check_description(request.description),
            ordered=request.ordered,
            created_at=now,
            updated_at=now,
        )
        endpoint_store.insert_endpoint(connection, endpoint)
        secret = self._store_secret(connection, endpoint)
        self._record(connection, by, "webhook_endpoint.created", endpoint, _describe(endpoint))
        return IssuedWebhookEndpoint(endpoint, secret)

    def update(
        self,
        connection: sa.Connection,
        endpoint: WebhookEndpoint,
        changes: Mapping[str, Any],
        *,
        enabled: bool | None = None,
        by: Actor,
    ) -> WebhookEndpoint:
        """Change fields of an endpoint, or enable or disable it. Raise as `create`.

        A disabled endpoint keeps its pending deliveries, and gets them once it is enabled again. It
        gets no event that happens meanwhile.
        """
        assert _NEVER_CHANGED.isdisjoint(changes), "these fields never change"
        after = replace(endpoint, **changes)
        if after.url != endpoint.url:
            self._check_url(after.url)
        after = replace(
            after,
            enabled_events=check_events(after.enabled_events),
            description=check_description(after.description),
        )
        if enabled is True and endpoint.disabled_at is not None:
            after = replace(after, disabled_at=None, disabled_reason=None, failing_since=None)
        elif enabled is False and endpoint.disabled_at is None:
            after = _disable(after, DisabledReason.REQUESTED, self._clock.now())
        changed = _difference(endpoint, after)
        if changed:
            self._update(connection, endpoint, changed)
            self._record(connection, by, "webhook_endpoint.updated", endpoint, changed)
        return self.get(connection, endpoint.organization_id, endpoint.id)

    def disable_broken(
        self, connection: sa.Connection, endpoint: WebhookEndpoint, reason: DisabledReason
    ) -> None:
        """Disable an endpoint that is gone or fails for too long, and tell the others."""
        now = self._clock.now()
        changed = _difference(endpoint, _disable(endpoint, reason, now))
        self._update(connection, endpoint, changed)
        self._record(connection, SYSTEM, "webhook_endpoint.disabled", endpoint, changed)
        topic = (WebhookEndpointDisabled.type, endpoint.organization_id)
        if topic in self._read_wanted(connection):
            event = WebhookEndpointDisabled(
                organization_id=endpoint.organization_id,
                endpoint_id=endpoint.id,
                url=endpoint.url,
                reason=reason.value,
                failing_since=endpoint.failing_since,
                disabled_at=now,
            )
            name = f"{event.type}:{endpoint.id}:{endpoint.version}"
            outbox.append(connection, [self._make_event(name, event, now)])

    def delete(self, connection: sa.Connection, endpoint: WebhookEndpoint, *, by: Actor) -> None:
        """Delete an endpoint with its secrets and its deliveries."""
        endpoint_store.delete_endpoint(connection, endpoint)
        delivery_store.delete_of_endpoint(connection, endpoint.id, limit=DELETED_AT_ONCE_ROWS)
        self._record(connection, by, "webhook_endpoint.deleted", endpoint, {"url": endpoint.url})

    def rotate(
        self,
        connection: sa.Connection,
        endpoint: WebhookEndpoint,
        *,
        overlap_seconds: float = OVERLAP_SECONDS,
        by: Actor,
    ) -> IssuedWebhookEndpoint:
        """Make a new secret. Deliveries carry signatures of both secrets for the overlap; a secret
        from an earlier rotation ends now."""
        if not 0 <= overlap_seconds <= OVERLAP_SECONDS_MAX:
            raise InvalidWebhookEndpointError(
                f"An overlap is 0 to {OVERLAP_SECONDS_MAX} seconds.", param="overlap_seconds"
            )
        now = self._clock.now()
        endpoint_store.expire_secrets(connection, endpoint.id, now=now, until=now + overlap_seconds)
        secret = self._store_secret(connection, endpoint)
        self._update(connection, endpoint, {})
        changes = {"overlap_seconds": overlap_seconds}
        self._record(connection, by, "webhook_endpoint.rotated", endpoint, changes)
        rotated = self.get(connection, endpoint.organization_id, endpoint.id)
        return IssuedWebhookEndpoint(rotated, secret)

    def send_test(
        self, connection: sa.Connection, endpoint: WebhookEndpoint, *, by: Actor
    ) -> Delivery:
        """Queue a `webhook.test` for an endpoint, whatever it subscribes to. Raise
        `WebhookEndpointDisabledError`."""
        if endpoint.disabled_at is not None:
            raise WebhookEndpointDisabledError("The endpoint is disabled. Enable it first.")
        now = self._clock.now()
        event = WebhookTest(
            endpoint.organization_id, endpoint.id, "This is a test of your webhook endpoint."
        )
        row = self._make_event(self._ids.make(event.type), event, now)
        made = make_delivery_row(parse_event(row), endpoint.id, order_key="", due_at=row[1])
        delivery_store.insert_deliveries(connection, [made])
        self._record(connection, by, "webhook_endpoint.tested", endpoint, {})
        return self.get_delivery(connection, endpoint, str(made[0])).delivery

    def replay(
        self, connection: sa.Connection, endpoint: WebhookEndpoint, delivery_id: str, *, by: Actor
    ) -> Delivery:
        """Send a delivery again, with the id of its event. Raise `DeliveryNotFoundError` and
        `WebhookEndpointDisabledError`."""
        if endpoint.disabled_at is not None:
            raise WebhookEndpointDisabledError("The endpoint is disabled. Enable it first.")
        now = self._clock.now()
        delivery_store.replay(connection, endpoint.id, delivery_id, now=int(now * MICROSECONDS))
        delivery = self.get_delivery(connection, endpoint, delivery_id).delivery
        changes = {"delivery_id": delivery_id}
        self._record(connection, by, "webhook_endpoint.replayed", endpoint, changes)
        return delivery

    def replay_failed(
        self, connection: sa.Connection, endpoint: WebhookEndpoint, *, since: float, by: Actor
    ) -> int:
        """Send all deliveries of events since a time again that did not arrive, and return how
        many. Raise `WebhookEndpointDisabledError`."""
        if endpoint.disabled_at is not None:
            raise WebhookEndpointDisabledError("The endpoint is disabled. Enable it first.")
        now = int(self._clock.now() * MICROSECONDS)
        count = delivery_store.replay_failed(
            connection, endpoint.id, since=int(since * MICROSECONDS), now=now
        )
        changes = {"since": since, "deliveries": count}
        self._record(connection, by, "webhook_endpoint.replayed", endpoint, changes)
        return count

    def get(
        self, connection: sa.Connection, organization_id: str | None, endpoint_id: str
    ) -> WebhookEndpoint:
        """Return an endpoint of this organization, or of any for None. Raise
        `WebhookEndpointNotFoundError`."""
        found = endpoint_store.select_endpoint(
            connection, endpoint_id, organization_id=organization_id
        )
        if found is None:
            raise WebhookEndpointNotFoundError("There is no such webhook endpoint.")
        return found

    def list(
        self,
        connection: sa.Connection,
        organization_id: str | None,
        *,
        limit: int,
        offset: int = 0,
    ) -> tuple[list[WebhookEndpoint], int]:
        """Return a page of the endpoints of an organization (of all for None), oldest first, and
        the total."""
        return endpoint_store.select_endpoints(
            connection, organization_id, limit=limit, offset=offset
        )

    def read_previous_expiry(
        self, connection: sa.Connection, endpoint: WebhookEndpoint
    ) -> float | None:
        """Return when the secret from before the last rotation ends; None if there is none."""
        found = endpoint_store.read_previous_expiry(connection, endpoint.id)
        return found if found is not None and found > self._clock.now() else None

    def list_deliveries(
        self,
        connection: sa.Connection,
        delivery_filter: DeliveryFilter,
        *,
        cursor: str | None = None,
        limit: int,
    ) -> tuple[list[Delivery], str | None]:
        """Return a page of deliveries, newest first, and the cursor of the next page. Raise
        `InvalidCursorError`."""
        after = None if cursor is None else decode_cursor(cursor)
        rows = delivery_store.select_deliveries(
            connection, delivery_filter, after=after, limit=limit + 1
        )
        page = rows[:limit]
        following = encode_cursor(page[-1][0], page[-1][1].id) if len(rows) > limit else None
        return [delivery for _, delivery in page], following

    def get_delivery(
        self, connection: sa.Connection, endpoint: WebhookEndpoint, delivery_id: str
    ) -> DeliveryDetails:
        """Return a delivery with its body and its attempts. Raise `DeliveryNotFoundError`."""
        found = delivery_store.select_delivery(connection, endpoint.id, delivery_id)
        if found is None:
            raise DeliveryNotFoundError("There is no such delivery.")
        return found

    async def check_address(self, url: str) -> None:
        """Resolve the name in a URL, where this process can. Raise `InvalidWebhookEndpointError`
        for an address that is not public; a name that does not resolve yet is accepted."""
        origin, _ = parse_destination(url)
        if self._guard is None:
            return
        try:
            await self._guard.resolve(origin, PURPOSE)
        except ForbiddenAddressError as error:
            raise InvalidWebhookEndpointError(str(error), param="url") from error
        except (ConnectError, OSError):
            return

    def _check_url(self, url: str) -> None:
        origin, _ = parse_destination(url)
        try:
            self._rule.check(origin)
        except ForbiddenAddressError as error:
            raise InvalidWebhookEndpointError(str(error), param="url") from error

    def _store_secret(self, connection: sa.Connection, endpoint: WebhookEndpoint) -> str:
        secret = make_secret()
        key_id, key = self._sealer.current_key(connection, endpoint.organization_id)
        record = WebhookSecretRow(
            id=f"whs_{secrets.token_hex(12)}",
            organization_id=endpoint.organization_id,
            endpoint_id=endpoint.id,
            key_id=key_id,
            seal_number=1,
        )
        row = endpoint_store.SecretRow(
            **msgspec.structs.asdict(record),
            name=endpoint.url,
            created_at=self._clock.now(),
            expires_at=None,
            sealed=seal_webhook_secret(key, secret, record),
        )
        endpoint_store.insert_secret(connection, row)
        return secret

    def _update(
        self, connection: sa.Connection, endpoint: WebhookEndpoint, changed: Mapping[str, Any]
    ) -> None:
        values = {**changed, "updated_at": self._clock.now()}
        endpoint_store.update_endpoint(connection, endpoint, values)

    def _make_event(
        self, name: str, event: WebhookTest | WebhookEndpointDisabled, now: float
    ) -> outbox.Row:
        at = int(now * MICROSECONDS)
        return name, at, event.type, event.organization_id, _encode(event)

    def _record(
        self,
        connection: sa.Connection,
        by: Actor,
        action: str,
        endpoint: WebhookEndpoint,
        changes: Mapping[str, Any],
    ) -> None:
        fields = msgspec.to_builtins(changes)
        event = AuditEvent(action, endpoint.organization_id, endpoint.id, fields)
        self._audit.record(connection, by, event)


_CHANGEABLE = (
    "url",
    "enabled_events",
    "description",
    "ordered",
    "disabled_at",
    "disabled_reason",
    "failing_since",
)


def _disable(endpoint: WebhookEndpoint, reason: DisabledReason, now: float) -> WebhookEndpoint:
    return replace(endpoint, disabled_at=now, disabled_reason=reason)


def _describe(endpoint: WebhookEndpoint) -> dict[str, Any]:
    return {name: value for name in _CHANGEABLE if (value := getattr(endpoint, name))}


def _difference(before: WebhookEndpoint, after: WebhookEndpoint) -> dict[str, Any]:
    return {
        name: getattr(after, name)
        for name in _CHANGEABLE
        if getattr(before, name) != getattr(after, name)
    }
