"""Turn events of the outbox into deliveries, one for each endpoint that wants the event."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import structlog

from headgate.kit import outbox
from headgate.webhooks.model.delivery import MICROSECONDS, DeliveryStatus
from headgate.webhooks.model.event import StoredEvent, name_delivery, parse_event, render_body
from headgate.webhooks.service.subscriptions import SubscriptionTable
from headgate.webhooks.store.deliveries import DeliveryRow

log = structlog.get_logger(__name__)


class FanOut(msgspec.Struct, frozen=True):
    """Hold the deliveries of some events, and the ids of those events in the outbox."""

    outbox_ids: list[str]
    deliveries: list[DeliveryRow]


def fan_out(rows: Sequence[outbox.Row], table: SubscriptionTable, *, now: float) -> FanOut:
    """Make the deliveries of events, due now. An event that nobody wants has none, and is removed.
    The transaction that read the events reads the table too."""
    due_at = int(now * MICROSECONDS)
    deliveries: list[DeliveryRow] = []
    for stored in rows:
        try:
            event = parse_event(stored)
        except (msgspec.DecodeError, AttributeError):
            log.exception("webhooks.event_unreadable", event=stored[0])
            continue
        subscriptions = table.find(event.type, event.organization_id)
        if not subscriptions:
            continue
        body = render_body(event)
        for each in subscriptions:
            order_key = event.key if each.ordered else ""
            row = make_delivery_row(
                event, each.endpoint_id, order_key=order_key, due_at=due_at, body=body
            )
            deliveries.append(row)
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
        None,
    )
