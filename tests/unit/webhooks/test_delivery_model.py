"""Outbox and deliveries against a plain model: random changes, answers, waits, kills and replays.

After every step the database holds exactly what the model holds, and each receiver got only what it
was owed. Processes reload their endpoints late, as they do beside each other.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from headgate.audit.model import SYSTEM
from headgate.kit import outbox
from headgate.kit.db.writer import Writer
from headgate.kit.http.message import Request
from headgate.webhooks.jobs import Dispatcher, Sender
from headgate.webhooks.model import WebhookEndpointDisabledError
from headgate.webhooks.model.delivery import RETRY_SECONDS
from headgate.webhooks.model.event import name_delivery, name_event
from headgate.webhooks.store.deliveries import DELIVERIES
from headgate.webhooks.store.endpoints import ENDPOINTS, SECRETS, note_change
from tests.fakes.webhooks import (
    Answer,
    VirtualClock,
    WebhookHarness,
    read_header,
    run_until_done,
    running_webhooks,
)

TOPICS = ("wallet.recharged", "key.revoked")
KEYS = ("a", "b")
DISABLED = "webhook.endpoint_disabled"
LEASE_SECONDS = 60.0
FAILING_SECONDS = 5 * 86_400.0
MICROSECONDS = 1_000_000


@dataclass
class Endpoint:
    """What the model knows of an endpoint. `answer` is what its receiver does."""

    id: str
    organization: str
    topics: tuple[str, ...]
    ordered: bool
    answer: int = 204
    enabled: bool = True
    failing_since: float | None = None
    version: int = 1


@dataclass
class Event:
    outbox_id: str
    topic: str
    organization: str
    key: str
    created_at: int


@dataclass
class Delivery:
    endpoint: str
    event: Event
    due_at: int
    status: str = "pending"
    attempts: int = 0

    @property
    def order_key(self) -> str:
        return self.event.key

    @property
    def position(self) -> tuple[int, str]:
        return self.event.created_at, name_event(self.event.outbox_id)


@dataclass
class Model:
    endpoints: dict[str, Endpoint] = field(default_factory=dict[str, Endpoint])
    routes: frozenset[str] = frozenset()
    """The endpoints that the process knows."""
    events: list[Event] = field(default_factory=list[Event])
    deliveries: dict[str, Delivery] = field(default_factory=dict[str, Delivery])
    arrived: set[str] = field(default_factory=set[str])
    """Deliveries that their receivers accepted."""

    def wants(self, topic: str, organization: str) -> list[Endpoint]:
        return [
            each
            for each in self.endpoints.values()
            if each.enabled
            and each.organization == organization
            and (topic in each.topics or "*" in each.topics)
        ]

    def publish(self, event: Event) -> None:
        if self.wants(event.topic, event.organization):
            self.events.append(event)

    def deliver(self, now: float) -> None:
        """Do all that is due, until nothing is."""
        while self.routes:
            self.fan_out(now)
            ready = [each for each in self.deliveries.values() if self.is_ready(each, now)]
            if not ready:
                return
            for each in ready:
                self._attempt(each, now)

    def fan_out(self, now: float) -> None:
        for event in self.events:
            for endpoint in self.wants(event.topic, event.organization):
                name = name_delivery(name_event(event.outbox_id), endpoint.id)
                due_at = int(now * MICROSECONDS)
                self.deliveries.setdefault(name, Delivery(endpoint.id, event, due_at))
        self.events = []

    def is_ready(self, delivery: Delivery, now: float) -> bool:
        return (
            delivery.status == "pending"
            and delivery.endpoint in self.routes
            and delivery.due_at <= int(now * MICROSECONDS)
            and not self._is_behind(delivery)
        )

    def _is_behind(self, delivery: Delivery) -> bool:
        return self.endpoints[delivery.endpoint].ordered and any(
            each.status == "pending"
            and each.endpoint == delivery.endpoint
            and each.order_key == delivery.order_key
            and each.position < delivery.position
            for each in self.deliveries.values()
        )

    def _attempt(self, delivery: Delivery, now: float) -> None:
        endpoint = self.endpoints[delivery.endpoint]
        delivery.attempts += 1
        if endpoint.answer == 204:
            delivery.status, endpoint.failing_since = "delivered", None
            delivery.due_at = int(now * MICROSECONDS)
            self.arrived.add(name_delivery(name_event(delivery.event.outbox_id), endpoint.id))
            return
        if endpoint.answer == 410 or delivery.attempts == len(RETRY_SECONDS):
            delivery.status, delivery.due_at = "exhausted", int(now * MICROSECONDS)
        else:
            wait_seconds = RETRY_SECONDS[delivery.attempts]
            delivery.due_at = int((now + wait_seconds) * MICROSECONDS)
        self._note_failure(endpoint, now)

    def _note_failure(self, endpoint: Endpoint, now: float) -> None:
        endpoint.failing_since = since = endpoint.failing_since or now
        if endpoint.enabled and (endpoint.answer == 410 or now - since >= FAILING_SECONDS):
            name = f"{DISABLED}:{endpoint.id}:{endpoint.version}"
            endpoint.enabled = False
            endpoint.version += 1
            at = int(now * MICROSECONDS)
            self.publish(Event(name, DISABLED, endpoint.organization, endpoint.organization, at))


class Stage:
    """Hold the real thing: one application for all examples, emptied between them."""

    def __init__(self, harness: WebhookHarness, clock: VirtualClock) -> None:
        self.harness = harness
        self.clock = clock
        self.organizations = [harness.organization_id]
        with harness.database.transaction() as connection:
            accounts = harness.application.accounts
            self.organizations.append(
                accounts.create_organization(connection, "Other", by=SYSTEM).id
            )

    def empty(self) -> None:
        with self.harness.database.transaction() as connection:
            for table in (DELIVERIES, SECRETS, ENDPOINTS, outbox.OUTBOX):
                connection.execute(sa.delete(table))
            note_change(connection)
        self.harness.reload()
        with self.harness.database.reading() as connection:
            self.harness.application.subscriptions.load(connection)
        self.harness.receiver.received.clear()


class DeliveryMachine(RuleBasedStateMachine):
    stage: Stage

    def __init__(self) -> None:
        super().__init__()
        self.stage.empty()
        self.model = Model()
        self.harness, self.clock = self.stage.harness, self.stage.clock
        self.webhooks = self.harness.application.webhooks
        self.targets: dict[bytes, str] = {}
        self.numbers = 0
        self.runner = asyncio.Runner()
        self.harness.receiver.script = self._answer
        self.harness.receiver.before = None

    def teardown(self) -> None:
        self.runner.close()

    def _answer(self, request: Request) -> Answer:
        return Answer(self.model.endpoints[self.targets[request.target]].answer)

    def _write(self, work: Callable[[sa.Connection], Any]) -> Any:
        with self.harness.database.transaction() as connection:
            return work(connection)

    def _draw_endpoint(self, data: st.DataObject) -> Endpoint:
        return self.model.endpoints[data.draw(st.sampled_from(list(self.model.endpoints)))]

    @rule(
        organization=st.integers(0, 1),
        topics=st.sampled_from([("*",), TOPICS[:1], TOPICS[1:], TOPICS]),
        ordered=st.booleans(),
    )
    def create(self, organization: int, topics: tuple[str, ...], ordered: bool) -> None:
        if len(self.model.endpoints) >= 5:
            return
        self.numbers += 1
        target, owner = f"/{self.numbers}", self.stage.organizations[organization]
        issued = self.harness.create(
            f"https://hooks.example.com{target}",
            organization_id=owner,
            enabled_events=topics,
            ordered=ordered,
            reload=False,
        )
        endpoint = Endpoint(issued.endpoint.id, owner, topics, ordered)
        self.model.endpoints[endpoint.id] = endpoint
        self.targets[target.encode()] = endpoint.id

    @precondition(lambda self: self.model.endpoints)
    @rule(data=st.data(), enabled=st.booleans())
    def switch(self, data: st.DataObject, enabled: bool) -> None:
        endpoint = self._draw_endpoint(data)

        def change(connection: sa.Connection) -> None:
            known = self.webhooks.get(connection, None, endpoint.id)
            self.webhooks.update(connection, known, {}, enabled=enabled, by=SYSTEM)

        self._write(change)
        if enabled != endpoint.enabled:
            endpoint.enabled = enabled
            endpoint.version += 1
            if enabled:
                endpoint.failing_since = None

    @precondition(lambda self: self.model.endpoints)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        endpoint = self._draw_endpoint(data)

        def remove(connection: sa.Connection) -> None:
            known = self.webhooks.get(connection, None, endpoint.id)
            self.webhooks.delete(connection, known, by=SYSTEM)

        self._write(remove)
        del self.model.endpoints[endpoint.id]
        self.model.deliveries = {
            name: each
            for name, each in self.model.deliveries.items()
            if each.endpoint != endpoint.id
        }

    @precondition(lambda self: self.model.endpoints)
    @rule(data=st.data(), answer=st.sampled_from([204, 204, 500, 410]))
    def choose_answer(self, data: st.DataObject, answer: int) -> None:
        self._draw_endpoint(data).answer = answer

    @rule()
    def reload(self) -> None:
        """The process hears of all changes; until then it works by what it knew."""
        self.harness.reload()
        self.model.routes = frozenset(
            each.id for each in self.model.endpoints.values() if each.enabled
        )

    @rule(organization=st.integers(0, 1), topic=st.sampled_from(TOPICS), key=st.sampled_from(KEYS))
    def publish(self, organization: int, topic: str, key: str) -> None:
        self.numbers += 1
        owner = self.stage.organizations[organization]
        at = int(self.clock.time * MICROSECONDS) + self.numbers
        event = Event(f"{topic}:{self.numbers}", topic, owner, key, at)
        payload = msgspec.json.encode({"organization_id": owner, "number": self.numbers})

        def store(connection: sa.Connection) -> None:
            connection.execute(sa.select(1))
            if (topic, owner) in self.harness.application.read_wanted(connection):
                outbox.append(connection, [(event.outbox_id, at, topic, key, payload)])

        self._write(store)
        self.model.publish(event)

    @rule()
    def deliver(self) -> None:
        self.runner.run(self._run(run_until_done))
        self.model.deliver(self.clock.time)

    @rule(is_received=st.booleans())
    def kill(self, is_received: bool) -> None:
        """A process claims deliveries and dies, before or after they arrived."""
        before = {each.id: each.due_at for each in self.harness.deliveries()}
        had_routes = bool(self.model.routes)
        self.runner.run(self._run(self._die, is_received=is_received))
        now = self.clock.time
        if had_routes:
            self.model.fan_out(now)
        lease_end = int((now + LEASE_SECONDS) * MICROSECONDS)
        for each in self.harness.deliveries():
            known = self.model.deliveries[each.id]
            if each.due_at == lease_end != before.get(each.id):
                assert self.model.is_ready(known, now), "it was not due"
                known.due_at = lease_end

    @rule(seconds=st.sampled_from([1.0, 6.0, 61.0, 400.0, 7_200.0, 100_000.0]))
    def wait(self, seconds: float) -> None:
        self.clock.time += seconds

    @precondition(lambda self: self.model.deliveries)
    @rule(data=st.data())
    def replay_one(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(list(self.model.deliveries)))
        delivery = self.model.deliveries[name]
        if self._replay(
            delivery.endpoint, lambda c, e: self.webhooks.replay(c, e, name, by=SYSTEM)
        ):
            self._renew(delivery)

    @precondition(lambda self: self.model.endpoints)
    @rule(data=st.data())
    def replay_failed(self, data: st.DataObject) -> None:
        endpoint = self._draw_endpoint(data)
        since = self.clock.time - 86_400
        failed = [
            each
            for each in self.model.deliveries.values()
            if each.endpoint == endpoint.id
            and each.event.created_at >= int(since * MICROSECONDS)
            and (each.status == "exhausted" or (each.status == "pending" and each.attempts))
        ]
        counts: list[int] = []
        is_done = self._replay(
            endpoint.id,
            lambda c, e: counts.append(self.webhooks.replay_failed(c, e, since=since, by=SYSTEM)),
        )
        if is_done:
            assert counts == [len(failed)]
            for each in failed:
                self._renew(each)

    def _replay(self, endpoint_id: str, replay: Callable[[sa.Connection, Any], Any]) -> bool:
        """Return whether the endpoint is enabled, as it must be."""

        def work(connection: sa.Connection) -> None:
            replay(connection, self.webhooks.get(connection, None, endpoint_id))

        is_enabled = self.model.endpoints[endpoint_id].enabled
        expected = contextlib.nullcontext()
        with expected if is_enabled else pytest.raises(WebhookEndpointDisabledError):
            self._write(work)
        return is_enabled

    def _renew(self, delivery: Delivery) -> None:
        delivery.status, delivery.attempts = "pending", 0
        delivery.due_at = int(self.clock.time * MICROSECONDS)

    async def _run(self, work: Callable[..., Any], **options: Any) -> None:
        """Run a dispatcher as a new process would."""
        harness = self.harness
        writer = Writer(harness.database)
        writer.start()
        dispatcher = Dispatcher(
            harness.database,
            writer,
            index=harness.application.webhook_index,
            subscriptions=harness.application.subscriptions,
            service=self.webhooks,
            sender=Sender(
                harness.receiver,
                read_now=self.clock.now,
                read_monotonic=self.clock.monotonic,
                choose_jitter=lambda: 0.5,
            ),
            clock=self.clock,
        )
        try:
            await work(dispatcher, **options)
        finally:
            await writer.stop()

    async def _die(self, dispatcher: Dispatcher, *, is_received: bool) -> None:
        hung = asyncio.get_running_loop().create_future()
        receiver = self.harness.receiver
        script, receiver.before = receiver.script, None if is_received else (lambda: hung)
        if is_received:

            def break_off(_request: Request) -> Answer:
                raise asyncio.CancelledError

            receiver.script = break_off
        await dispatcher.step()
        await asyncio.sleep(0)
        await dispatcher.stop(wait_seconds=0)
        receiver.script, receiver.before = script, None

    @invariant()
    def database_is_the_model(self) -> None:
        stored = {
            each.id: (each.endpoint_id, each.status, each.attempts, each.due_at)
            for each in self.harness.deliveries()
        }
        assert stored == {
            name: (each.endpoint, each.status, each.attempts, each.due_at)
            for name, each in self.model.deliveries.items()
        }
        with self.harness.database.reading() as connection:
            rows = outbox.select_oldest(connection, limit=1_000)
        assert {row[0] for row in rows} == {each.outbox_id for each in self.model.events}

    @invariant()
    def receivers_have_what_they_are_owed(self) -> None:
        arrived = {
            name_delivery(read_header(request, b"webhook-id"), self.targets[request.target])
            for request in self.harness.receiver.received
        }
        assert self.model.arrived <= arrived
        assert {
            name for name, each in self.model.deliveries.items() if each.status == "delivered"
        } <= arrived


@pytest.fixture
def stage(tmp_path: Path) -> Generator[Stage]:
    clock = VirtualClock()
    with running_webhooks(tmp_path / "data", clock) as harness:
        yield Stage(harness, clock)


@pytest.mark.timeout(300)
def test_deliveries_follow_the_model(stage: Stage) -> None:
    DeliveryMachine.stage = stage
    run_state_machine_as_test(  # pyright: ignore[reportUnknownMemberType]
        DeliveryMachine,
        settings=settings(
            max_examples=10,
            stateful_step_count=30,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow],
        ),
    )
