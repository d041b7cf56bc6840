"""Dispatch deliveries: fan events out, claim what is due, send it, and store the results.

Several processes do this on one database. A delivery is claimed by a lease, so it is sent by one of
them; if that one dies, it is sent again when the lease ends, with the same `webhook-id`.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Sequence
from typing import Protocol

import msgspec
import sqlalchemy as sa
import structlog

from headgate.kit import outbox
from headgate.kit.clock import Clock
from headgate.kit.db.engine import Database
from headgate.kit.db.writer import Writer
from headgate.kit.errors import HeadgateError
from headgate.webhooks.jobs.flow import DeliveryFlow, Quota
from headgate.webhooks.jobs.sender import THROTTLED
from headgate.webhooks.model.delivery import (
    MICROSECONDS,
    Attempt,
    ClaimedDelivery,
    DeliveryStatus,
)
from headgate.webhooks.model.endpoint import DisabledReason
from headgate.webhooks.service import EndpointIndex, EndpointRoute, Subscriptions, WebhookService
from headgate.webhooks.service.fan_out import FanOut, fan_out
from headgate.webhooks.store import deliveries as delivery_store
from headgate.webhooks.store import endpoints as endpoint_store
from headgate.webhooks.store.deliveries import DueEndpoint, ResultRow

EVENTS_PER_STEP = 500
POLL_SECONDS = 0.2
IDLE_SECONDS = 1.0
"""How often a process without any endpoint looks whether there is one."""
GATHER_SECONDS = 0.005
"""How long finished deliveries are gathered, so that their places are filled by one statement."""
STOP_SECONDS = 5.0

log = structlog.get_logger(__name__)


class DispatcherLimits(msgspec.Struct, frozen=True):
    """Limit the deliveries on their way, in all and to one endpoint. `lease_seconds` is longer than
    an attempt and the storing of its result can take."""

    in_flight_max: int = 256
    endpoint_in_flight_max: int = 64
    lease_seconds: float = 60.0
    failing_seconds_max: float = 5 * 86_400.0
    """An endpoint is disabled when all of its deliveries have failed for so long."""


class DeliverySender(Protocol):
    async def send(self, route: EndpointRoute, delivery: ClaimedDelivery) -> Attempt: ...


class Dispatcher:
    """Run the deliveries of this process."""

    def __init__(
        self,
        database: Database,
        writer: Writer,
        *,
        index: EndpointIndex,
        subscriptions: Subscriptions,
        service: WebhookService,
        sender: DeliverySender,
        clock: Clock,
        limits: DispatcherLimits | None = None,
    ) -> None:
        self._database = database
        self._writer = writer
        self._index = index
        self._subscriptions = subscriptions
        self._service = service
        self._sender = sender
        self._clock = clock
        self._limits = limits = limits or DispatcherLimits()
        self._flow = DeliveryFlow(
            in_flight_max=limits.in_flight_max,
            endpoint_in_flight_max=limits.endpoint_in_flight_max,
            read_now=clock.now,
        )
        # None is flushed: what a power failure undoes is done again.
        self._fan_out_queue = writer.create_queue(self._insert_all, durable=False)
        self._claim_queue = writer.create_queue(self._claim_all, durable=False)
        self._result_queue = writer.create_queue(self._store_results, durable=False)
        self._tasks: set[asyncio.Task[None]] = set()
        self._wake = asyncio.Event()
        self.results = {"delivered": 0, "failed": 0, "exhausted": 0}
        """Attempts of this process by their result; `failed` ones are tried again."""
        self.pending = 0
        self.oldest_seconds = 0.0

    @property
    def in_flight(self) -> int:
        return self._flow.running

    async def run(self) -> None:
        """Dispatch until cancelled; then let what is on its way end."""
        try:
            while True:
                is_busy = False
                try:
                    is_busy = await self.step()
                except HeadgateError as error:
                    log.warning("webhooks.step_failed", error=error.message)
                # A bug in one step must not end all deliveries, unseen.
                except Exception:
                    log.exception("webhooks.fault")
                await self._rest(is_busy=is_busy)
        finally:
            await self.stop()

    async def step(self) -> bool:
        """Fan out, claim and start what there is; return whether there may be more."""
        if not self._index.routes:
            return False
        events, due = await asyncio.to_thread(self._look)
        if events is not None:
            await self._fan_out_queue.put(events)
            due = await asyncio.to_thread(self._find_due)
        known = [each for each in due if each.endpoint_id in self._index.routes]
        now = int(self._clock.now() * MICROSECONDS)
        quotas = self._flow.plan(known, now_microseconds=now)
        claimed = await self._claim_queue.put(quotas) if quotas else ()
        for delivery in claimed:
            self._start(delivery)
        is_full = events is not None and len(events.outbox_ids) == EVENTS_PER_STEP
        return is_full or bool(claimed)

    async def drain(self) -> None:
        """Wait until nothing is on its way."""
        while self._tasks:
            await asyncio.wait(self._tasks)

    async def measure(self) -> None:
        """Count what waits, for the metrics."""

        def count() -> tuple[int, int | None]:
            with self._database.reading() as connection:
                return delivery_store.count_pending(connection)

        self.pending, oldest = await asyncio.to_thread(count)
        self._flow.forget_unused()
        self.oldest_seconds = (
            0.0 if oldest is None else max(0.0, self._clock.now() - oldest / MICROSECONDS)
        )

    async def _rest(self, *, is_busy: bool) -> None:
        if is_busy:
            await asyncio.sleep(0)
            return
        self._wake.clear()
        seconds = POLL_SECONDS if self._index.routes else IDLE_SECONDS
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._wake.wait()
                await asyncio.sleep(GATHER_SECONDS)

    async def stop(self, *, wait_seconds: float = STOP_SECONDS) -> None:
        """Let what is on its way end, and cancel the rest: it is sent again when its lease ends."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=wait_seconds)
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _look(self) -> tuple[FanOut | None, list[DueEndpoint]]:
        """Return the deliveries of new events; without any, the endpoints that have something due.

        Events and subscriptions are of one state of the database: an endpoint that was registered
        before an event was committed is there when the event is.
        """
        with self._database.reading() as connection:
            events = outbox.select_oldest(connection, limit=EVENTS_PER_STEP)
            if not events:
                return None, delivery_store.select_due_endpoints(connection)
            table = self._subscriptions.read(connection)
        return fan_out(events, table, now=self._clock.now()), []

    def _find_due(self) -> list[DueEndpoint]:
        with self._database.reading() as connection:
            return delivery_store.select_due_endpoints(connection)

    def _start(self, delivery: ClaimedDelivery) -> None:
        was_failing = self._flow.take(delivery.endpoint_id)
        task = asyncio.create_task(self._deliver(delivery, was_failing=was_failing))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _deliver(self, delivery: ClaimedDelivery, *, was_failing: bool) -> None:
        try:
            route = self._index.routes.get(delivery.endpoint_id)
            if route is None:
                # Disabled a moment ago: the delivery waits with the others.
                return
            attempt = await self._sender.send(route, delivery)
            self._flow.learn(attempt, throttled=attempt.status_code in THROTTLED)
            await self._result_queue.put(attempt)
            self._count(attempt)
        except HeadgateError as error:
            # The lease ends, and the delivery is sent again.
            log.warning("webhooks.result_lost", delivery=delivery.id, error=error.message)
        # A bug in one delivery must not go unseen.
        except Exception:
            log.exception("webhooks.delivery_fault", delivery=delivery.id)
        finally:
            self._flow.give_back(delivery.endpoint_id, was_failing=was_failing)
            self._wake.set()

    def _count(self, attempt: Attempt) -> None:
        is_failed = attempt.status is DeliveryStatus.PENDING
        self.results["failed" if is_failed else attempt.status.value] += 1

    def _insert_all(self, connection: sa.Connection, fan_outs: Sequence[FanOut]) -> Sequence[None]:
        for each in fan_outs:
            delivery_store.insert_deliveries(connection, each.deliveries)
            outbox.delete(connection, each.outbox_ids)
        return [None] * len(fan_outs)

    def _claim_all(
        self, connection: sa.Connection, plans: Sequence[list[Quota]]
    ) -> Sequence[list[ClaimedDelivery]]:
        now = self._clock.now()
        until = int((now + self._limits.lease_seconds) * MICROSECONDS)
        return [
            [
                delivery
                for quota in plan
                for delivery in delivery_store.claim(
                    connection,
                    quota.endpoint_id,
                    now=int(now * MICROSECONDS),
                    until=until,
                    limit=quota.limit,
                )
            ]
            for plan in plans
        ]

    def _store_results(
        self, connection: sa.Connection, attempts: Sequence[Attempt]
    ) -> Sequence[None]:
        delivery_store.finish(connection, [_make_row(attempt) for attempt in attempts])
        by_endpoint: dict[str, list[Attempt]] = {}
        for attempt in attempts:
            if attempt.counts:
                by_endpoint.setdefault(attempt.delivery.endpoint_id, []).append(attempt)
        # In one order in every process, so that two of them never wait for each other.
        for endpoint_id in sorted(by_endpoint):
            self._judge_endpoint(connection, endpoint_id, by_endpoint[endpoint_id])
        return [None] * len(attempts)

    def _judge_endpoint(
        self, connection: sa.Connection, endpoint_id: str, attempts: Sequence[Attempt]
    ) -> None:
        if any(attempt.status is DeliveryStatus.DELIVERED for attempt in attempts):
            endpoint_store.mark_working(connection, endpoint_id)
            return
        now = self._clock.now()
        endpoint_store.mark_failing(connection, endpoint_id, now)
        endpoint = endpoint_store.select_endpoint(connection, endpoint_id, organization_id=None)
        if endpoint is None or endpoint.disabled_at is not None:
            return
        if any(attempt.is_gone for attempt in attempts):
            self._service.disable_broken(connection, endpoint, DisabledReason.GONE)
        elif now - (endpoint.failing_since or now) >= self._limits.failing_seconds_max:
            self._service.disable_broken(connection, endpoint, DisabledReason.FAILING)


def _make_row(attempt: Attempt) -> ResultRow:
    delivery = attempt.delivery
    at = int(attempt.at * MICROSECONDS)
    due_at = at if attempt.next_at is None else int(attempt.next_at * MICROSECONDS)
    return (
        attempt.status.value,
        due_at,
        delivery.attempts + 1 if attempt.counts else delivery.attempts,
        attempt.status_code,
        attempt.error,
        attempt.latency_microseconds,
        at,
        attempt.extend_history(),
        delivery.id,
        delivery.attempts,
    )
