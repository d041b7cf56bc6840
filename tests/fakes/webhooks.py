"""Webhooks on a real database: an application, events in its outbox, and dispatchers."""

from __future__ import annotations

import asyncio
import contextlib
import random
from collections.abc import AsyncGenerator, Awaitable, Callable, Generator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import sqlalchemy as sa

from headgate import settings
from headgate.audit.model import SYSTEM
from headgate.kit import outbox
from headgate.kit.clock import Clock, SystemClock
from headgate.kit.db.writer import Writer
from headgate.kit.http.client import HttpClient
from headgate.kit.http.guard import Guard, Lookup
from headgate.kit.http.message import Headers, HoldBytes, Request, Sink
from headgate.main.application import Application
from headgate.webhooks.jobs import Dispatcher, DispatcherLimits, Sender
from headgate.webhooks.model import WebhookEndpoint, WebhookEndpointRequest
from headgate.webhooks.service import TOPIC, IssuedWebhookEndpoint
from headgate.webhooks.store.deliveries import DELIVERIES
from tests.fakes.quick_start import open_quickly

EVENT = "wallet.recharged"


class VirtualClock:
    """Tell the time that a test sets."""

    def __init__(self) -> None:
        self.time = 1_900_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class Answer:
    """Answer a request of a sender, without a network."""

    def __init__(self, status: int, headers: Headers | None = None) -> None:
        self.status = status
        self.headers = headers or []

    async def read(self, bytes_max: int, hold: HoldBytes | None = None) -> bytes:
        return b""

    def stream(self, sink: Sink) -> None: ...
    def pause(self) -> None: ...
    def resume(self) -> None: ...
    def abort(self) -> None: ...


@dataclass
class Receiver:
    """Stand in for the egress client: keep every request, and answer by `script`."""

    script: Callable[[Request], Answer] = field(default=lambda _request: Answer(204))
    received: list[Request] = field(default_factory=list[Request])
    before: Callable[[], Awaitable[None]] | None = None
    """What a request waits for before it arrives."""

    async def send(self, request: Request) -> Answer:
        if self.before is not None:
            await self.before()
        self.received.append(request)
        return self.script(request)

    @property
    def ids(self) -> list[str]:
        return [read_header(request, b"webhook-id") for request in self.received]


def read_header(request: Request, name: bytes) -> str:
    return dict(request.headers)[name].decode()


def read_headers(request: Request) -> dict[str, str]:
    return {name.decode(): value.decode() for name, value in request.headers}


@dataclass
class WebhookHarness:
    """Hold an application with an organization, and everything that delivers its webhooks."""

    application: Application
    clock: Clock
    organization_id: str
    receiver: Receiver = field(default_factory=Receiver)
    count: int = 0

    @property
    def database(self) -> Any:
        return self.application.database

    def create(
        self, url: str = "https://hooks.example.com/in", *, reload: bool = True, **fields: Any
    ) -> IssuedWebhookEndpoint:
        events = fields.pop("enabled_events", ("*",))
        request = WebhookEndpointRequest(
            organization_id=fields.pop("organization_id", self.organization_id),
            url=url,
            enabled_events=events,
            **fields,
        )
        with self.database.transaction() as connection:
            issued = self.application.webhooks.create(connection, request, by=SYSTEM)
        if reload:
            self.reload()
        return issued

    def reload(self) -> None:
        with self.database.reading() as connection:
            self.application.load(connection, frozenset({TOPIC}))

    def publish(self, count: int = 1, *, key: str = "", topic: str = EVENT) -> list[str]:
        """Store events, and return their numbers as texts."""
        numbers = [str(self.count + index) for index in range(count)]
        self.count += count
        rows = [
            (
                f"{topic}:{number}",
                int(self.clock.now() * 1_000_000) + int(number),
                topic,
                key or self.organization_id,
                msgspec.json.encode(
                    {
                        "organization_id": self.organization_id,
                        "number": number,
                        "amount_nano": 25_000_000_000,
                        "recharged_at": self.clock.now(),
                    }
                ),
            )
            for number in numbers
        ]
        with self.database.transaction() as connection:
            outbox.append(connection, rows)
        return numbers

    def endpoint(self, endpoint_id: str) -> WebhookEndpoint:
        with self.database.reading() as connection:
            return self.application.webhooks.get(connection, None, endpoint_id)

    def deliveries(self) -> Sequence[Any]:
        """Return all deliveries, oldest event first."""
        with self.database.reading() as connection:
            order = (DELIVERIES.c.created_at, DELIVERIES.c.id)
            return connection.execute(sa.select(DELIVERIES).order_by(*order)).all()

    def events_left(self) -> int:
        with self.database.reading() as connection:
            return len(outbox.select_oldest(connection, limit=100_000))

    @contextlib.asynccontextmanager
    async def dispatcher(
        self, client: Any = None, *, limits: DispatcherLimits | None = None
    ) -> AsyncGenerator[Dispatcher]:
        """A dispatcher on a writer of its own, as another process would have."""
        writer = Writer(self.database)
        writer.start()
        sender = Sender(
            client or self.receiver,
            read_now=self.clock.now,
            read_monotonic=self.clock.monotonic,
            choose_jitter=random.Random(7).random,
        )
        try:
            yield Dispatcher(
                self.database,
                writer,
                index=self.application.webhook_index,
                subscriptions=self.application.subscriptions,
                service=self.application.webhooks,
                sender=sender,
                clock=self.clock,
                limits=limits,
            )
        finally:
            await writer.stop()


async def run_until_done(dispatcher: Dispatcher) -> None:
    """Step until nothing is due any more."""
    while await dispatcher.step():
        await dispatcher.drain()
    await dispatcher.drain()


@contextlib.asynccontextmanager
async def running(dispatcher: Dispatcher) -> AsyncGenerator[None]:
    task = asyncio.create_task(dispatcher.run())
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


def open_guarded_client(application: Application, lookup: Lookup | None = None) -> HttpClient:
    """Open a real egress client with the egress rules of the application."""
    return HttpClient(resolver=Guard(application.egress_rules, lookup))


@contextlib.contextmanager
def running_webhooks(
    folder: Path, clock: Clock | None = None, **variables: str
) -> Generator[WebhookHarness]:
    """Webhooks in a data directory; `variables` are settings in lower case."""
    environment = {f"HEADGATE_{name.upper()}": value for name, value in variables.items()}
    loaded = settings.load(environment, data=folder)
    application = open_quickly(loaded, clock=clock or SystemClock())
    if clock is not None:
        # The database's own clock would not follow the test's.
        application.database.read_clock = lambda: None
    try:
        with application.database.transaction() as connection:
            accounts = application.accounts
            made = accounts.create_organization(connection, "Own", by=SYSTEM)
        harness = WebhookHarness(application, clock or application.database_clock, made.id)
        harness.reload()
        yield harness
    finally:
        application.close()
