"""Two dispatchers on one PostgreSQL share deliveries, and take over what a dead one left."""

from __future__ import annotations

import asyncio
import contextlib
from collections import Counter
from collections.abc import Generator
from pathlib import Path

import pytest

from headgate.main.application import open_application
from headgate.webhooks.jobs import DispatcherLimits
from tests.fakes.waiting import wait_until
from tests.fakes.webhooks import WebhookHarness, read_header, running, running_webhooks

pytestmark = pytest.mark.anyio

EVENTS, ENDPOINTS = 200, 3
LEASE_SECONDS = 1.5


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def pair(tmp_path: Path, prepared_url: str) -> Generator[tuple[WebhookHarness, WebhookHarness]]:
    with running_webhooks(tmp_path / "data", None, database_url=prepared_url) as first:
        for number in range(ENDPOINTS):
            first.create(f"https://hooks.example.com/{number}")
        application = open_application(first.application.settings)
        second = WebhookHarness(application, application.database_clock, first.organization_id)
        second.reload()
        try:
            yield first, second
        finally:
            application.close()


def count_arrivals(*harnesses: WebhookHarness) -> Counter[tuple[bytes, str]]:
    return Counter(
        (request.target, read_header(request, b"webhook-id"))
        for harness in harnesses
        for request in harness.receiver.received
    )


def count_delivered(harness: WebhookHarness) -> int:
    return sum(each.status == "delivered" for each in harness.deliveries())


async def test_each_delivery_is_sent_by_one_of_them(
    pair: tuple[WebhookHarness, WebhookHarness],
) -> None:
    first, second = pair
    for harness in pair:
        harness.receiver.before = lambda: asyncio.sleep(0.002)
    first.publish(EVENTS)
    async with (
        first.dispatcher() as one,
        second.dispatcher() as other,
        running(one),
        running(other),
    ):
        wanted = EVENTS * ENDPOINTS
        await asyncio.to_thread(wait_until, lambda: count_delivered(first) == wanted, 60.0)
    arrivals = count_arrivals(first, second)
    assert len(arrivals) == arrivals.total() == EVENTS * ENDPOINTS
    assert first.receiver.received
    assert second.receiver.received
    assert {each.attempts for each in first.deliveries()} == {1}


async def test_leases_of_a_dead_one_are_taken_over(
    pair: tuple[WebhookHarness, WebhookHarness],
) -> None:
    first, second = pair
    first.publish(20)
    limits = DispatcherLimits(lease_seconds=LEASE_SECONDS)
    async with first.dispatcher(limits=limits) as dead:
        hung = asyncio.get_running_loop().create_future()
        first.receiver.before = lambda: hung
        await dead.step()
        claimed = dead.in_flight
        await dead.stop(wait_seconds=0)
    assert claimed
    async with second.dispatcher(limits=limits) as alive, running(alive):
        with contextlib.suppress(AssertionError):
            await asyncio.to_thread(wait_until, lambda: False, LEASE_SECONDS / 3)
        wanted = 20 * ENDPOINTS
        assert count_delivered(second) <= wanted - claimed
        await asyncio.to_thread(wait_until, lambda: count_delivered(second) == wanted, 30.0)
    arrivals = count_arrivals(first, second)
    assert len(arrivals) == arrivals.total() == wanted
    assert {each.attempts for each in second.deliveries()} == {1}
