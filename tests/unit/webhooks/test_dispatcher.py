"""Deliveries in virtual time: signed, repeated by the schedule, exhausted, disabled, ordered."""

from __future__ import annotations

import asyncio
import datetime
import itertools
import json
from collections.abc import Generator
from pathlib import Path
from typing import Any

import pytest
import sqlalchemy as sa
from standardwebhooks.webhooks import Webhook

from headgate.audit.model import SYSTEM
from headgate.kit.http.errors import FirstByteTimeoutError
from headgate.kit.http.message import Request
from headgate.webhooks.jobs import Dispatcher
from headgate.webhooks.model import DisabledReason
from headgate.webhooks.model.delivery import RETRY_SECONDS
from tests.fakes.webhooks import (
    Answer,
    VirtualClock,
    WebhookHarness,
    read_header,
    run_until_done,
    running_webhooks,
)

pytestmark = pytest.mark.anyio

DAY = 86_400.0


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgresql"])
def harness(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[WebhookHarness]:
    variables: dict[str, str] = {}
    if request.param == "postgresql":
        variables["database_url"] = request.getfixturevalue("prepared_url")
    with running_webhooks(tmp_path / "data", VirtualClock(), **variables) as harness:
        yield harness


def clock_of(harness: WebhookHarness) -> VirtualClock:
    assert isinstance(harness.clock, VirtualClock)
    return harness.clock


def verify(secret: str, request: Request) -> Any:
    """Verify a signature as the library does, without its look at the real clock."""
    event_id, at = read_header(request, b"webhook-id"), read_header(request, b"webhook-timestamp")
    assert isinstance(request.body, bytes)
    moment = datetime.datetime.fromtimestamp(int(at), datetime.UTC)
    expected = Webhook(secret).sign(event_id, moment, request.body.decode())
    assert expected in read_header(request, b"webhook-signature").split(" ")
    return json.loads(request.body)


async def test_event_is_delivered_once_and_signed(harness: WebhookHarness) -> None:
    issued = harness.create()
    harness.publish()
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
    [request] = harness.receiver.received
    body = verify(issued.secret, request)
    assert body["id"] == read_header(request, b"webhook-id")
    assert body["type"] == "wallet.recharged"
    assert body["api_version"] == "2026-11-30"
    assert body["created"].endswith("Z")
    fields = body["data"]["object"]
    assert (fields["amount"], fields["amount_nano"]) == ("25.000000000", 25_000_000_000)
    assert fields["recharged_at"].startswith("2030-")
    [delivery] = harness.deliveries()
    assert (delivery.status, delivery.attempts, delivery.status_code) == ("delivered", 1, 204)
    assert harness.events_left() == 0


async def test_event_goes_to_those_who_subscribed(harness: WebhookHarness) -> None:
    wanted = harness.create(enabled_events=("wallet.recharged",))
    harness.create(enabled_events=("key.revoked",))
    every = harness.create(enabled_events=("*",))
    with harness.database.transaction() as connection:
        other = harness.application.accounts.create_organization(connection, "Other", by=SYSTEM)
    harness.create(organization_id=other.id)
    harness.publish()
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
    found = {delivery.endpoint_id for delivery in harness.deliveries()}
    assert found == {wanted.endpoint.id, every.endpoint.id}
    assert len(set(harness.receiver.ids)) == 1


async def test_schedule_of_an_endpoint_that_never_answers(harness: WebhookHarness) -> None:
    harness.create()
    harness.publish()
    harness.receiver.script = lambda _request: Answer(500)
    clock, times = clock_of(harness), list[float]()
    async with harness.dispatcher() as dispatcher:
        delivery: Any = None
        for _ in range(40):
            before = len(harness.receiver.received)
            await run_until_done(dispatcher)
            times += [clock.time] * (len(harness.receiver.received) - before)
            [delivery] = harness.deliveries()
            if delivery.status != "pending":
                break
            clock.time = delivery.due_at / 1_000_000 + 0.001
    assert len(times) == len(RETRY_SECONDS) == 10
    for wait, expected in zip(
        (later - earlier for earlier, later in itertools.pairwise(times)),
        RETRY_SECONDS[1:],
        strict=True,
    ):
        assert expected * 0.9 <= wait <= expected * 1.1 + 0.01
    assert 0.9 * 272_105 <= times[-1] - times[0] <= 1.1 * 272_105
    assert delivery.status == "exhausted"
    assert len(set(harness.receiver.ids)) == 1
    with harness.database.transaction() as connection:
        endpoint = harness.endpoint(delivery.endpoint_id)
        harness.application.webhooks.replay(connection, endpoint, delivery.id, by=SYSTEM)
    harness.receiver.script = lambda _request: Answer(200)
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
    [delivery] = harness.deliveries()
    assert delivery.status == "delivered"
    assert len(set(harness.receiver.ids)) == 1


@pytest.mark.parametrize("status", [301, 302, 307, 400, 404, 429, 500, 502, 503, 504])
async def test_all_but_2xx_is_a_failure(harness: WebhookHarness, status: int) -> None:
    harness.create()
    harness.publish()
    headers = [(b"location", b"http://169.254.169.254/latest/meta-data/")]
    harness.receiver.script = lambda _request: Answer(status, headers)
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
    [delivery] = harness.deliveries()
    assert (delivery.status, delivery.attempts, delivery.status_code) == ("pending", 1, status)
    assert str(status) in delivery.error
    assert len(harness.receiver.received) == 1


async def test_retry_after_is_honoured_and_only_makes_the_wait_longer(
    harness: WebhookHarness,
) -> None:
    harness.create()
    harness.publish()
    clock = clock_of(harness)
    answers = iter([Answer(503, [(b"retry-after", b"100")]), Answer(429, [(b"retry-after", b"1")])])
    harness.receiver.script = lambda _request: next(answers)
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
        [delivery] = harness.deliveries()
        assert delivery.due_at / 1_000_000 - clock.time == pytest.approx(100, abs=0.1)
        clock.time += 101
        await run_until_done(dispatcher)
        [delivery] = harness.deliveries()
        assert 269 <= delivery.due_at / 1_000_000 - clock.time <= 331


async def test_throttled_endpoint_rests(harness: WebhookHarness) -> None:
    harness.create()
    harness.publish()
    harness.receiver.script = lambda _request: Answer(429, [(b"retry-after", b"60")])
    clock = clock_of(harness)
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
        harness.publish(5)
        await run_until_done(dispatcher)
        assert len(harness.receiver.received) == 1
        clock.time += 61
        harness.receiver.script = lambda _request: Answer(200)
        await run_until_done(dispatcher)
    assert len(harness.receiver.received) == 7


async def test_410_disables_the_endpoint_and_its_queue_waits(harness: WebhookHarness) -> None:
    issued = harness.create()
    other = harness.create(
        "https://alarm.example.com/", enabled_events=("webhook.endpoint_disabled",)
    )
    harness.publish()
    harness.receiver.script = lambda request: Answer(
        410 if request.origin.host == "hooks.example.com" else 200
    )
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
        harness.publish()
        await dispatcher.step()
        await dispatcher.drain()
        harness.reload()
        endpoint = harness.endpoint(issued.endpoint.id)
        assert endpoint.disabled_reason is DisabledReason.GONE
        await run_until_done(dispatcher)
    told = [each for each in harness.deliveries() if each.endpoint_id == other.endpoint.id]
    assert [each.event_type for each in told] == ["webhook.endpoint_disabled"]
    with harness.database.reading() as connection:
        query = "SELECT actor_id FROM audit WHERE action = 'webhook_endpoint.disabled'"
        assert connection.exec_driver_sql(query).scalar_one() == "headgate"
    with harness.database.reading() as connection:
        wanted = harness.application.read_wanted(connection)
    assert wanted == {("webhook.endpoint_disabled", harness.organization_id)}


async def test_endpoint_is_disabled_after_five_days_of_failures_only(
    harness: WebhookHarness,
) -> None:
    issued = harness.create()
    clock = clock_of(harness)

    def fail(_request: Request) -> Answer:
        raise FirstByteTimeoutError("no answer")

    async def send(dispatcher: Dispatcher) -> None:
        harness.publish()
        await run_until_done(dispatcher)
        harness.reload()

    async with harness.dispatcher() as dispatcher:
        harness.receiver.script = fail
        await send(dispatcher)
        clock.time += 3 * DAY
        harness.receiver.script = lambda _request: Answer(200)
        await send(dispatcher)
        assert harness.endpoint(issued.endpoint.id).failing_since is None
        harness.receiver.script = fail
        await send(dispatcher)
        for _ in range(4):
            clock.time += DAY
            await send(dispatcher)
        assert harness.endpoint(issued.endpoint.id).disabled_at is None
        clock.time += DAY + 1
        await send(dispatcher)
    endpoint = harness.endpoint(issued.endpoint.id)
    assert endpoint.disabled_reason is DisabledReason.FAILING
    with harness.database.transaction() as connection:
        harness.application.webhooks.update(connection, endpoint, {}, enabled=True, by=SYSTEM)
    harness.reload()
    assert harness.endpoint(issued.endpoint.id).failing_since is None
    harness.receiver.script = lambda _request: Answer(200)
    clock.time += 4 * DAY
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
    assert {each.status for each in harness.deliveries()} == {"delivered"}


async def test_order_of_each_key_is_kept_where_the_endpoint_asks(
    harness: WebhookHarness,
) -> None:
    harness.create(ordered=True)
    for _ in range(5):
        harness.publish(key="a")
        harness.publish(key="b")
    clock, failed = clock_of(harness), set[str]()

    def fail_first(request: Request) -> Answer:
        event_id = read_header(request, b"webhook-id")
        if event_id not in failed:
            failed.add(event_id)
            return Answer(500)
        return Answer(200)

    harness.receiver.script = fail_first
    async with harness.dispatcher() as dispatcher:
        for _ in range(30):
            await run_until_done(dispatcher)
            clock.time += 6
    assert {each.status for each in harness.deliveries()} == {"delivered"}
    bodies = [json.loads(request.body) for request in harness.receiver.received]  # type: ignore[arg-type]
    numbers = [int(body["data"]["object"]["number"]) for body in bodies]
    for rest in (0, 1):
        of_key = [number for number in numbers if number % 2 == rest]
        assert of_key == sorted(of_key)


async def test_both_secrets_sign_during_the_overlap(harness: WebhookHarness) -> None:
    first = harness.create()
    clock = clock_of(harness)
    with harness.database.transaction() as connection:
        second = harness.application.webhooks.rotate(connection, first.endpoint, by=SYSTEM)
    harness.reload()
    async with harness.dispatcher() as dispatcher:
        harness.publish()
        await run_until_done(dispatcher)
        clock.time += DAY - 1
        harness.publish()
        await run_until_done(dispatcher)
        for request in harness.receiver.received:
            verify(first.secret, request)
            verify(second.secret, request)
        clock.time += 2
        harness.publish()
        await run_until_done(dispatcher)
    last = harness.receiver.received[-1]
    verify(second.secret, last)
    with pytest.raises(AssertionError):
        verify(first.secret, last)


async def test_lease_that_ends_sends_again_with_the_same_id(harness: WebhookHarness) -> None:
    harness.create()
    harness.publish()

    clock = clock_of(harness)
    async with harness.dispatcher() as dispatcher:
        # The process dies between the claim and the answer.
        hung = asyncio.get_running_loop().create_future()
        harness.receiver.before = lambda: hung
        await dispatcher.step()
        await asyncio.sleep(0)
        await dispatcher.stop(wait_seconds=0)
        harness.receiver.before = None
    assert harness.receiver.received == []
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
        assert harness.receiver.received == []
        clock.time += 61
        await run_until_done(dispatcher)
    assert len(harness.receiver.received) == 1


async def test_event_that_nobody_wants_is_removed(harness: WebhookHarness) -> None:
    harness.create(enabled_events=("key.revoked",))
    harness.publish(3)
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
    assert harness.events_left() == 0
    assert harness.deliveries() == []


async def test_body_stays_below_20_kb(harness: WebhookHarness) -> None:
    harness.create()
    large = '{"organization_id": "%s", "id": "x1", "text": "%s", "amount_nano": 5}'
    with harness.database.transaction() as connection:
        connection.execute(
            sa.text("INSERT INTO outbox VALUES ('big', 1, 'wallet.recharged', 'k', :payload)"),
            {"payload": (large % (harness.organization_id, "x" * 30_000)).encode()},
        )
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
    [request] = harness.receiver.received
    assert isinstance(request.body, bytes)
    assert len(request.body) < 20_000
    fields = json.loads(request.body)["data"]["object"]
    assert fields["truncated"] is True
    assert fields["id"] == "x1"
