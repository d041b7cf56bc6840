"""Put the events of payments into the outbox."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from headgate.kit import outbox
from headgate.payments.events import InvoicePaid, TopUpFailed, WalletRecharged

MICROSECONDS = 1_000_000
_encode = msgspec.json.Encoder().encode


def publish(
    connection: sa.Connection,
    event: WalletRecharged | InvoicePaid | TopUpFailed,
    subject: str,
    *,
    now: float,
    read_wanted: outbox.ReadWanted,
) -> None:
    """Store an event about a subject, in the transaction that makes it true."""
    if (event.type, event.organization_id) in read_wanted(connection):
        at = int(now * MICROSECONDS)
        event_id = f"{event.type}:{subject}"
        outbox.append(
            connection, [(event_id, at, event.type, event.organization_id, _encode(event))]
        )
