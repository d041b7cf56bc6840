"""Turn events of the outbox into deliveries, one for each endpoint that wants the event."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import structlog

from headgate.kit import outbox
from headgate.webhooks.model.delivery import MICROSECONDS, DeliveryStatus
from headgate.webhooks.model.event import StoredEvent, name_delivery, parse_event, render_body
from headgate.webhooks.service.endpoint_index import EndpointIndex
from headgate.webhooks.store.deliveries import DeliveryRow

log = structlog.get_logger(__name__)


class FanOut(msgspec.Struct, frozen=True):
    """Hold the deliveries of some events, and the ids of those events in the outbox."""

    outbox_ids: list[str]
    deliveries: list[DeliveryRow]


def fan_out(rows: Sequence[outbox.Row], index: EndpointIndex, *, now: float) -> FanOut:
    """Make the deliveries of events, due now. An event that nobody wants has none, and is
    removed."""
    due_at = int(now * MICROSECONDS)
    deliveries: list[DeliveryRow] = []
    for row in rows:
        try:
            event = parse_event(row)
        except (msgspec.DecodeError, AttributeError):
            log.exception("webhooks.event_unreadable", event=row[0])
            continue
        routes = index.find(event.type, event.organization_id)
        if not routes:
            continue
        body = render_body(event)
        for route in routes:
            order_key = event.key if route.ordered else ""
            deliveries.append(
                make_delivery_row(event, route.id, order_key=order_key, due_at=due_at, body=body)
            )
    return FanOut([row[0] for row in rows], deliveries)


def make_delivery_row(
    event: StoredEvent, endpoint_id: str, *, order_key: str, due_at: int, body: bytes | None = None
) -> DeliveryRow:
    """Return the row of a new delivery, in the order of the table's columns."""
    return (
        name_delivery(event.id, endpoint_id),
        event.organization_id,
        endpoint_id,
        event.id,
        event.type,
        order_key,
        render_body(event) if body is None else body,
        event.created_at,
        DeliveryStatus.PENDING.value,
        due_at,
        0,
        None,
        "",
        None,
        None,
    )
