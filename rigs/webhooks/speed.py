"""Measure deliveries per second, from events in the outbox to results in the database."""

from __future__ import annotations

import time
from collections.abc import Iterator

import msgspec
import sqlalchemy as sa

from headgate.kit import outbox
from headgate.kit.db.engine import Database
from headgate.webhooks.store.deliveries import DELIVERIES
from rigs.torture.servers import Servers, running_servers
from rigs.webhooks.receivers import running_receiver

TOPIC = "wallet.recharged"
SLICE = 1_000
WAIT_SECONDS = 300.0


class Speed(msgspec.Struct):
    """Hold a measurement. `seconds` are those between the first and the last delivery."""

    place: str
    servers: int
    deliveries: int
    seconds: float

    @property
    def per_second(self) -> float:
        return self.deliveries / self.seconds


def measure(place: str, *, events: int, servers: int = 1) -> Speed:
    """Let servers deliver events to a fast receiver in another process. Raise `AssertionError` if
    one is lost or sent twice."""
    with running_receiver() as receiver, running_servers(place, count=servers) as running:
        running.run("webhooks", "create", receiver.url("/ok/fast"), "--event", TOPIC)
        time.sleep(2.0)
        database = Database(running.place)
        try:
            _publish(database, running, events)
            _wait(database, events)
        finally:
            database.close()
        count, seconds = receiver.read_count()
    assert count == events, f"{count} deliveries of {events} events"
    return Speed(place, servers, count, seconds)


def _publish(database: Database, servers: Servers, count: int) -> None:
    """Store all events in one transaction, so that they wait when the first is sent."""
    with database.transaction() as connection:
        for rows in _make_rows(servers.organization_id, count):
            outbox.append(connection, rows)


def _make_rows(organization_id: str, count: int) -> Iterator[list[outbox.Row]]:
    payload = msgspec.json.encode(
        {
            "organization_id": organization_id,
            "payment_id": "pay_1",
            "amount_nano": 25_000_000_000,
            "currency": "usd",
            "created_at": time.time(),
        }
    )
    at = int(time.time() * 1_000_000)
    for start in range(0, count, SLICE):
        numbers = range(start, min(start + SLICE, count))
        yield [(f"speed:{each}", at + each, TOPIC, organization_id, payload) for each in numbers]


def _wait(database: Database, events: int) -> None:
    delivered = (
        sa.select(sa.func.count())
        .select_from(DELIVERIES)
        .where(DELIVERIES.c.status == "delivered", DELIVERIES.c.event_type == TOPIC)
    )
    deadline = time.monotonic() + WAIT_SECONDS
    while time.monotonic() < deadline:
        with database.reading() as connection:
            if connection.execute(delivered).scalar_one() >= events:
                return
        time.sleep(0.5)
    raise AssertionError("the deliveries did not end")
