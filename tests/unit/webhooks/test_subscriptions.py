"""Events reach every endpoint that was registered before they were committed, in any process."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa

from headgate.audit.model import SYSTEM
from headgate.billing.service.ledger import Ledger
from headgate.kit import outbox
from headgate.kit.db.writer import Writer
from headgate.kit.ids import IdGenerator
from headgate.kit.rate_limiter import RateLimitedError
from headgate.main.application import Application, open_application
from headgate.relay.ports import Grant, Receipt
from headgate.webhooks.model import WebhookEndpoint
from headgate.webhooks.service.rate_limit_notices import RateLimitNotices, select_wanted
from headgate.webhooks.service.subscriptions import Subscriptions
from tests.fakes.example_receipt import make_receipt
from tests.fakes.webhooks import VirtualClock, WebhookHarness, run_until_done, running_webhooks

pytestmark = pytest.mark.anyio


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture(params=["sqlite", "postgresql"])
def variables(request: pytest.FixtureRequest) -> dict[str, str]:
    if request.param == "sqlite":
        return {}
    return {"database_url": request.getfixturevalue("prepared_url")}


@pytest.fixture
def harness(tmp_path: Path, variables: dict[str, str]) -> Generator[WebhookHarness]:
    with running_webhooks(tmp_path / "data", None, **variables) as harness:
        yield harness


@contextlib.contextmanager
def other_process(harness: WebhookHarness) -> Generator[Application]:
    """An application on the same database that hears of no change."""
    application = open_application(harness.application.settings)
    with application.database.reading() as connection:
        application.subscriptions.load(connection)
    try:
        yield application
    finally:
        application.close()


async def record(application: Application, *receipts: Receipt) -> None:
    writer = Writer(application.database)
    writer.start()
    ledger = Ledger(writer, application.clock, read_wanted=application.read_wanted)
    for receipt in receipts:
        await ledger.record(receipt, None)
    await writer.stop()


def stored_topics(harness: WebhookHarness) -> list[tuple[str, str]]:
    with harness.database.reading() as connection:
        return [(row[2], row[3]) for row in outbox.select_oldest(connection, limit=100)]


async def test_process_that_has_not_heard_of_an_endpoint_stores_its_events(
    harness: WebhookHarness,
) -> None:
    with other_process(harness) as other:
        issued = harness.create(enabled_events=("request.completed",))
        await record(other, make_receipt(organization_id=harness.organization_id))
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
    [delivery] = harness.deliveries()
    assert (delivery.endpoint_id, delivery.event_type) == (issued.endpoint.id, "request.completed")


async def test_events_of_others_are_not_even_stored(harness: WebhookHarness) -> None:
    harness.create(enabled_events=("request.completed",))
    with harness.database.transaction() as connection:
        made = harness.application.accounts.create_organization(connection, "Other", by=SYSTEM)
    await record(
        harness.application,
        make_receipt(request_id="r1", organization_id=made.id),
        make_receipt(request_id="r2", organization_id=harness.organization_id),
    )
    assert stored_topics(harness) == [("request.completed", harness.organization_id)]


async def test_dispatcher_with_an_old_table_removes_no_event(harness: WebhookHarness) -> None:
    first = harness.create(enabled_events=("key.revoked",))
    with other_process(harness) as other:
        with other.database.reading() as connection:
            other.webhook_index.load(connection, other.sealer)
        second = harness.create(enabled_events=("wallet.recharged",))
        harness.publish(3)
        stale = WebhookHarness(other, harness.clock, harness.organization_id)
        async with stale.dispatcher() as dispatcher:
            await run_until_done(dispatcher)
        assert list(other.webhook_index.routes) == [first.endpoint.id]
        assert stale.receiver.received == []
    assert harness.events_left() == 0
    async with harness.dispatcher() as dispatcher:
        await run_until_done(dispatcher)
    assert len(harness.receiver.received) == 3
    assert {each.endpoint_id for each in harness.deliveries()} == {second.endpoint.id}


async def test_change_that_was_rolled_back_is_not_kept(harness: WebhookHarness) -> None:
    application, subscriptions = harness.application, Subscriptions()
    issued = harness.create(enabled_events=("key.revoked",))
    with harness.database.reading() as connection:
        subscriptions.load(connection)
    key_revoked = {("key.revoked", harness.organization_id)}

    def change(connection: sa.Connection, **changes: Any) -> None:
        endpoint: WebhookEndpoint = application.webhooks.get(connection, None, issued.endpoint.id)
        application.webhooks.update(connection, endpoint, changes, by=SYSTEM)

    with contextlib.suppress(ZeroDivisionError), harness.database.transaction() as connection:
        change(connection, enabled_events=("invoice.paid",))
        assert subscriptions.read_wanted(connection) == {("invoice.paid", harness.organization_id)}
        raise ZeroDivisionError
    with harness.database.transaction() as connection:
        change(connection, description="other")
        assert subscriptions.read_wanted(connection) == key_revoked
    with harness.database.reading() as connection:
        connection.execute(sa.select(1))
        assert subscriptions.read_wanted(connection) == key_revoked


async def test_registration_waits_for_transactions_that_may_have_missed_it(
    harness: WebhookHarness,
) -> None:
    database = harness.database
    assert database.wait_for_earlier_writes()
    if harness.application.settings.database_url is None:
        return
    is_written, may_end = threading.Event(), threading.Event()

    def write() -> None:
        with database.transaction() as connection:
            connection.exec_driver_sql("UPDATE revisions SET value = value WHERE topic = 'x'")
            connection.exec_driver_sql("INSERT INTO revisions VALUES ('x', 1)")
            is_written.set()
            may_end.wait(10)

    thread = threading.Thread(target=write)
    thread.start()
    is_written.wait(10)
    assert not database.wait_for_earlier_writes(0.05)
    threading.Timer(0.1, may_end.set).start()
    assert database.wait_for_earlier_writes(10.0)
    thread.join()


def test_refusals_of_a_key_become_one_event_for_those_who_want_it() -> None:
    notices = RateLimitNotices(VirtualClock(), IdGenerator())
    wanting, other = Grant("key_a", "a", "proj_1"), Grant("key_b", "b", "proj_2")
    refused = RateLimitedError("Too many.", wait_seconds=1.0, rate_limits=())
    for number in range(3):
        notices.observe(refused, wanting, f"req_{number}")
    notices.observe(refused, other, "req_9")
    rows = notices.take()
    assert notices.take() == []
    [row] = select_wanted(rows, {("request.rate_limited", "a")})
    fields = msgspec.json.decode(row[4])
    assert (fields["count"], fields["request_id"], fields["key_id"]) == (3, "req_0", "key_a")
    assert fields["code"] == refused.code
