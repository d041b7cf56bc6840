"""Put the events of payments into the outbox."""

from __future__ import annotations

from collections.abc import Callable

import msgspec
import sqlalchemy as sa

from headgate.kit import outbox
from headgate.payments.events import InvoicePaid, WalletRecharged

MICROSECONDS = 1_000_000
_encode = msgspec.json.Encoder().encode

Subscribed = Callable[[str, str], bool]
"""Tell whether any subscriber wants the events of a topic of an organization."""


def publish(
    connection: sa.Connection,
    event: WalletRecharged | InvoicePaid,
    subject: str,
    *,
    now: float,
    subscribed: Subscribed,
) -> None:
    """Store an event about a subject, in the transaction that makes it true."""
    if subscribed(event.type, event.organization_id):
        at = int(now * MICROSECONDS)
        event_id = f"{event.type}:{subject}"
        outbox.append(
            connection, [(event_id, at, event.type, event.organization_id, _encode(event))]
        )
