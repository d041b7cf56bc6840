from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Generator
from pathlib import Path
from typing import Any

import msgspec
import pytest
import sqlalchemy as sa
from sqlalchemy import exc

from headgate.billing import jobs
from headgate.billing.model.ledger import (
    HoldNotFoundError,
    ReferenceConflictError,
    name_account,
)
from headgate.billing.model.refusals import InsufficientFundsError
from headgate.billing.service.ledger import (
    Ledger,
    find_inconsistencies,
    fund,
    read_available,
    read_debt,
)
from headgate.billing.service.verification import verify
from headgate.billing.store import ledger as store
from headgate.kit import outbox
from headgate.kit.db.engine import Database, StorageUnavailableError
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from headgate.kit.errors import Kind
from headgate.metering import store as metering
from headgate.relay.ports import Hold, Receipt
from tests.fakes import example_receipt

pytestmark = pytest.mark.anyio

ORG = "org_1"


class StoppedClock:
    """Tell the time that a test sets; the wall clock can be set on its own."""

    def __init__(self) -> None:
        self.time = 1_700_000_000.0
        self.set_by = 0.0

    def now(self) -> float:
        return self.time + self.set_by

    def monotonic(self) -> float:
        return self.time


def make_hold(request_id: str, amount_nano: int, *, organization_id: str = ORG) -> Hold:
    return Hold(
        request_id,
        organization_id,
        amount_nano,
        project_id="prj_1",
        key_id="key_1",
        credential_id="crd_1",
        endpoint="/v1/responses",
        method="POST",
        provider="openai",
        model="gpt-4o",
        price_id="price_1",
    )


def make_receipt(request_id: str, cost_nano: int, *, outcome: str = "completed") -> Receipt:
    return example_receipt.make_receipt(
        request_id=request_id,
        organization_id=ORG,
        managed=True,
        outcome=outcome,
        streamed=True,
        cost_nano=cost_nano,
    )


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"


@pytest.fixture
def clock() -> StoppedClock:
    return StoppedClock()


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> Generator[Database]:
    if request.param == "sqlite":
        database = Database(tmp_path / "test.db", busy_timeout_seconds=0.05)
    else:
        # A statement may take so long, too.
        database = Database(request.getfixturevalue("prepared_url"), busy_timeout_seconds=1.5)
    with database.transaction() as connection:
        METADATA.create_all(connection)
        fund(connection, ORG, amount_nano=1_000, reference="start", now=1.0)
    yield database
    with database.reading() as connection:
        assert find_inconsistencies(connection) == []
    database.close()


@contextlib.contextmanager
def locked(database: Database) -> Generator[None]:
    """Lock the receipts, as another program that does not end."""
    with database.transaction() as connection:
        if connection.dialect.name == "postgresql":
            connection.exec_driver_sql("LOCK TABLE receipts IN EXCLUSIVE MODE")
        yield


@pytest.fixture
async def writer(database: Database) -> AsyncGenerator[Writer]:
    writer = Writer(database)
    writer.start()
    yield writer
    await writer.stop()


@pytest.fixture
def ledger(writer: Writer, clock: StoppedClock) -> Ledger:
    return Ledger(writer, clock, read_wanted=outbox.want_everything, lease_seconds=60.0)


def read_accounts(database: Database) -> dict[str, int]:
    with database.reading() as connection:
        rows = connection.execute(
            sa.select(store.LEDGER_ACCOUNTS.c.kind, store.LEDGER_ACCOUNTS.c.balance_nano)
        )
        return {kind: nano for kind, nano in rows if nano}


def read_entries(database: Database, transaction_id: str) -> dict[str, int]:
    entries = store.ENTRIES.c
    with database.reading() as connection:
        rows = connection.execute(
            sa.select(entries.account_id, entries.amount_nano).where(
                entries.transaction_id == transaction_id
            )
        )
        return {account_id.partition(":")[2]: nano for account_id, nano in rows}


def find_receipt(database: Database, request_id: str) -> Receipt | None:
    with database.reading() as connection:
        return metering.find(connection, request_id)


async def test_a_hold_moves_money_from_the_wallet_to_held(
    ledger: Ledger, database: Database
) -> None:
    await ledger.hold(make_hold("req_1", 400))
    assert read_accounts(database) == {"wallet": 600, "held": 400, "funding": -1_000}
    assert read_entries(database, "hold:req_1") == {"wallet": -400, "held": 400}


async def test_a_hold_above_the_balance_is_refused_and_says_what_is_missing(
    ledger: Ledger, database: Database
) -> None:
    with pytest.raises(InsufficientFundsError) as refusal:
        await ledger.hold(make_hold("req_1", 1_001))
    assert (refusal.value.kind, refusal.value.code) == (Kind.UNPAID, "insufficient_funds")
    assert refusal.value.should_retry is False
    assert "0.000001001" in refusal.value.message
    assert "0.000001000" in refusal.value.message
    assert read_accounts(database) == {"wallet": 1_000, "funding": -1_000}


async def test_an_organization_without_a_wallet_has_nothing_to_spend(ledger: Ledger) -> None:
    with pytest.raises(InsufficientFundsError):
        await ledger.hold(make_hold("req_1", 1, organization_id="org_poor"))


async def test_holds_of_one_batch_are_granted_as_far_as_the_money_goes(
    ledger: Ledger, database: Database
) -> None:
    holds = [ledger.hold(make_hold(f"req_{number}", 300)) for number in range(5)]
    results = await asyncio.gather(*holds, return_exceptions=True)
    assert [type(result) for result in results].count(InsufficientFundsError) == 2
    assert read_accounts(database) == {"wallet": 100, "held": 900, "funding": -1_000}


async def test_settling_bills_the_cost_and_gives_the_rest_back(
    ledger: Ledger, database: Database
) -> None:
    hold = make_hold("req_1", 400)
    await ledger.hold(hold)
    await ledger.record(make_receipt("req_1", 150), hold)
    assert read_accounts(database) == {"wallet": 850, "revenue": 150, "funding": -1_000}
    assert read_entries(database, "settle:req_1") == {"held": -400, "revenue": 150, "wallet": 250}
    assert find_receipt(database, "req_1") == make_receipt("req_1", 150)


async def test_a_call_that_cost_nothing_releases_its_hold(
    ledger: Ledger, database: Database
) -> None:
    hold = make_hold("req_1", 400)
    await ledger.hold(hold)
    await ledger.record(make_receipt("req_1", 0, outcome="upstream_error"), hold)
    assert read_accounts(database) == {"wallet": 1_000, "funding": -1_000}


async def test_a_settlement_that_comes_twice_bills_once(ledger: Ledger, database: Database) -> None:
    first, second = make_hold("req_1", 400), make_hold("req_2", 400)
    await asyncio.gather(ledger.hold(first), ledger.hold(second))
    await asyncio.gather(
        ledger.record(make_receipt("req_1", 150), first),
        ledger.record(make_receipt("req_1", 399), first),
        ledger.record(make_receipt("req_2", 50), second),
    )
    await ledger.record(make_receipt("req_1", 400), first)
    assert read_accounts(database) == {"wallet": 800, "revenue": 200, "funding": -1_000}
    assert find_receipt(database, "req_1") == make_receipt("req_1", 150)


async def test_a_cost_above_the_hold_is_taken_from_the_wallet(
    ledger: Ledger, database: Database
) -> None:
    hold = make_hold("req_1", 400)
    await ledger.hold(hold)
    await ledger.record(make_receipt("req_1", 450), hold)
    assert read_accounts(database) == {"wallet": 550, "revenue": 450, "funding": -1_000}
    assert read_entries(database, "excess:req_1") == {"wallet": -50, "revenue": 50}


async def test_a_cost_that_the_wallet_cannot_cover_is_written_down_as_overspend(
    ledger: Ledger, database: Database
) -> None:
    hold = make_hold("req_1", 980)
    await ledger.hold(hold)
    await ledger.record(make_receipt("req_1", 1_100), hold)
    assert read_accounts(database) == {"revenue": 1_100, "overspend": -100, "funding": -1_000}
    assert read_entries(database, "excess:req_1") == {
        "wallet": -20,
        "overspend": -100,
        "revenue": 120,
    }


async def test_what_is_owed_is_paid_by_the_next_grants_first(
    ledger: Ledger, database: Database
) -> None:
    hold = make_hold("req_1", 980)
    await ledger.hold(hold)
    await ledger.record(make_receipt("req_1", 1_100), hold)
    await ledger.fund("org_1", 30, reference="first")
    with database.reading() as connection:
        assert (read_debt(connection, "org_1"), read_available(connection, "org_1")) == (70, 0)
    await ledger.fund("org_1", 100, reference="second")
    await ledger.fund("org_1", 100, reference="second")
    assert read_accounts(database) == {"wallet": 30, "revenue": 1_100, "funding": -1_130}
    assert read_entries(database, "repay:org_1:second") == {"wallet": -70, "overspend": 70}


@pytest.mark.parametrize(
    ("managed", "topics"), [(True, {"usage.implausible"}), (False, set[str]())]
)
async def test_usage_that_cannot_be_is_an_event_whoever_has_subscribed(
    database: Database, writer: Writer, clock: StoppedClock, *, managed: bool, topics: set[str]
) -> None:
    ledger = Ledger(writer, clock, read_wanted=outbox.want_nothing)
    hold = make_hold("req_1", 400)
    await ledger.hold(hold)
    receipt = msgspec.structs.replace(
        make_receipt("req_1", 400), pricing="implausible", managed=managed
    )
    await ledger.record(receipt, hold)
    with database.reading() as connection:
        assert set(connection.execute(sa.select(outbox.OUTBOX.c.topic)).scalars()) == topics


async def test_a_settlement_without_its_hold_records_nothing(
    ledger: Ledger, database: Database
) -> None:
    with pytest.raises(HoldNotFoundError):
        await ledger.record(make_receipt("req_1", 150), make_hold("req_1", 400))
    assert find_receipt(database, "req_1") is None


async def test_a_hold_that_is_taken_twice_is_taken_once(ledger: Ledger, database: Database) -> None:
    hold = make_hold("req_1", 400)
    results = await asyncio.gather(ledger.hold(hold), ledger.hold(hold), return_exceptions=True)
    assert isinstance(results[0], Hold)
    assert results[0].amount_nano == 400
    assert type(results[1]).__name__ in {"IntegrityError", "UniqueViolation"}
    assert read_accounts(database) == {"wallet": 600, "held": 400, "funding": -1_000}


async def test_an_own_key_call_is_measured_and_touches_no_money(
    ledger: Ledger, database: Database
) -> None:
    await ledger.record(make_receipt("req_1", 150), None)
    await ledger.record(make_receipt("req_1", 151), None)
    assert find_receipt(database, "req_1") == make_receipt("req_1", 150)
    assert read_accounts(database) == {"wallet": 1_000, "funding": -1_000}


async def test_every_settled_call_is_announced_once_with_its_receipt(
    ledger: Ledger, database: Database
) -> None:
    receipt = make_receipt("req_1", 150)
    await asyncio.gather(ledger.record(receipt, None), ledger.record(receipt, None))
    with database.reading() as connection:
        (row,) = connection.execute(sa.select(outbox.OUTBOX)).all()
    assert (row.topic, row.key) == ("request.completed", ORG)
    payload: dict[str, Any] = msgspec.json.decode(row.payload)
    assert msgspec.convert(payload["receipt"], Receipt) == receipt


async def test_nothing_is_announced_that_nobody_wants(
    writer: Writer, clock: StoppedClock, database: Database
) -> None:
    ledger = Ledger(writer, clock, read_wanted=outbox.want_nothing)
    await ledger.record(make_receipt("req_1", 150), None)
    with database.reading() as connection:
        assert connection.execute(sa.select(outbox.OUTBOX)).all() == []


async def test_an_expired_hold_becomes_an_unknown_receipt_billed_at_the_hold(
    ledger: Ledger, database: Database, clock: StoppedClock
) -> None:
    await ledger.hold(make_hold("req_1", 400))
    clock.time += 30
    await ledger.hold(make_hold("req_2", 100))
    clock.time += 31
    assert await jobs.resolve_expired_holds(ledger) == 1
    receipt = find_receipt(database, "req_1")
    assert receipt is not None
    assert (receipt.outcome, receipt.estimated, receipt.cost_nano) == ("unknown", True, 400)
    assert (receipt.key_id, receipt.model_requested) == ("key_1", "gpt-4o")
    assert (receipt.endpoint, receipt.created_at) == ("/v1/responses", clock.time)
    assert read_accounts(database) == {
        "wallet": 500,
        "held": 100,
        "revenue": 400,
        "funding": -1_000,
    }


@pytest.mark.parametrize("set_by", [3_600.0, -3_600.0, 40 * 86_400.0, -600.0])
async def test_a_lease_runs_its_time_whatever_becomes_of_the_clock(
    ledger: Ledger, clock: StoppedClock, set_by: float
) -> None:
    await ledger.hold(make_hold("req_1", 400))
    clock.set_by = set_by
    assert await ledger.resolve_expired() == 0
    clock.time += 61
    assert await ledger.resolve_expired() == 1


async def test_hold_of_a_call_that_may_take_long_lasts_as_long_as_the_call(
    ledger: Ledger, clock: StoppedClock, database: Database
) -> None:
    long = msgspec.structs.replace(make_hold("req_long", 400), lease_seconds=3_900.0)
    await asyncio.gather(ledger.hold(long), ledger.hold(make_hold("req_1", 100)))
    clock.time += 3_899
    assert await ledger.resolve_expired() == 1
    await ledger.record(make_receipt("req_long", 150), long)
    assert read_accounts(database) == {"wallet": 750, "revenue": 250, "funding": -1_000}
    await ledger.hold(msgspec.structs.replace(long, request_id="req_dead"))
    clock.time += 3_901
    assert await ledger.resolve_expired() == 1


async def test_a_call_cut_off_in_its_hold_leaves_a_receipt_and_no_money_held(
    ledger: Ledger, database: Database
) -> None:
    for number, amount_nano in enumerate((400, 5_000)):  # the second is more than there is
        hold = make_hold(f"req_{number}", amount_nano)
        holding = asyncio.ensure_future(ledger.hold(hold))
        holding.cancel()
        receipt = make_receipt(hold.request_id, 0, outcome="cancelled")
        await asyncio.gather(
            ledger.record(make_receipt(f"req_other_{number}", 0), None),
            ledger.record(receipt, hold),
        )
        assert find_receipt(database, hold.request_id) == receipt
    assert read_accounts(database) == {"wallet": 1_000, "funding": -1_000}


@pytest.mark.parametrize("database", ["sqlite"], indirect=True)
async def test_what_a_full_disk_refuses_is_recorded_when_there_is_room_again(
    ledger: Ledger, writer: Writer, database: Database
) -> None:
    hold = make_hold("req_1", 400)
    await ledger.hold(hold)
    await writer.call(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1"))
    lost = [(make_receipt("req_1", 150), hold), (make_receipt("req_2", 0), None)]
    big = msgspec.structs.replace(make_receipt("req_0", 0), model_requested="x" * 20_000)
    with pytest.raises(StorageUnavailableError):
        await ledger.record(big, None)
    for pair in lost:
        ledger.defer(*pair)
    with pytest.raises(StorageUnavailableError) as refused:
        ledger.check()
    assert (refused.value.should_retry, refused.value.retry_after_seconds) == (True, 2.0)
    await writer.call(lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=9999"))
    assert await ledger.recover() == [receipt for receipt, _ in lost]
    ledger.check()
    assert (ledger.deferred, await ledger.recover()) == (0, [])
    assert read_accounts(database) == {"wallet": 850, "revenue": 150, "funding": -1_000}


async def test_call_that_ends_after_its_lease_is_corrected_to_its_cost_once(
    ledger: Ledger, database: Database, clock: StoppedClock
) -> None:
    hold = make_hold("req_1", 400)
    await ledger.hold(hold)
    clock.time += 61
    await ledger.resolve_expired()
    for cost in (150, 150, 399):
        await ledger.record(make_receipt("req_1", cost), hold)
    assert await ledger.resolve_expired() == 0
    assert read_accounts(database) == {"wallet": 850, "revenue": 150, "funding": -1_000}
    correction = find_receipt(database, "req_1.c1")
    assert correction is not None
    assert (correction.outcome, correction.cost_nano) == ("corrected", -250)
    with database.reading() as connection:
        assert verify(connection) == []


async def test_holds_of_a_dead_process_are_resolved_at_the_next_start(
    ledger: Ledger, database: Database
) -> None:
    await asyncio.gather(*[ledger.hold(make_hold(f"req_{n}", 1)) for n in range(600)])
    assert await ledger.resolve_abandoned() == 600
    assert read_accounts(database) == {"wallet": 400, "revenue": 600, "funding": -1_000}


async def test_a_grant_is_credited_once_for_each_reference(
    ledger: Ledger, database: Database
) -> None:
    assert await ledger.fund(ORG, 500, reference="invoice-7") is True
    assert await ledger.fund(ORG, 500, reference="invoice-7") is False
    with pytest.raises(ReferenceConflictError):
        await ledger.fund(ORG, 501, reference="invoice-7")
    with database.reading() as connection:
        assert read_available(connection, ORG) == 1_500


async def test_what_the_database_could_not_store_is_not_kept_at_all(
    ledger: Ledger, database: Database
) -> None:
    hold = make_hold("req_1", 400)
    await ledger.hold(hold)
    with locked(database), pytest.raises(StorageUnavailableError):
        await ledger.record(make_receipt("req_1", 150), hold)
    assert find_receipt(database, "req_1") is None
    assert read_accounts(database) == {"wallet": 600, "held": 400, "funding": -1_000}
    await ledger.record(make_receipt("req_1", 150), hold)


@pytest.mark.parametrize("change", ["UPDATE entries SET amount_nano = 0", "DELETE FROM entries"])
def test_entries_cannot_be_changed(database: Database, change: str) -> None:
    with (
        pytest.raises(exc.IntegrityError, match="append-only"),
        database.transaction() as connection,
    ):
        connection.exec_driver_sql(change)


def test_the_database_itself_refuses_a_negative_wallet(database: Database) -> None:
    with (
        pytest.raises(exc.IntegrityError, match="ck_ledger_accounts_balance"),
        database.transaction() as connection,
    ):
        connection.exec_driver_sql("UPDATE ledger_accounts SET balance_nano = -1")


def test_the_audit_names_everything_that_does_not_add_up(empty_place: Path | str) -> None:
    database = Database(empty_place)
    with database.transaction() as connection:
        METADATA.create_all(connection)
        fund(connection, ORG, amount_nano=5, reference="a", now=1.0)
        wallet = name_account(ORG, "wallet")
        connection.exec_driver_sql(
            "INSERT INTO entries (transaction_id, account_id, amount_nano, request_id, created_at)"
            f" VALUES ('odd', '{wallet}', 3, '', 1), ('even', 'nobody', 0, '', 1)"
        )
        connection.exec_driver_sql(
            "INSERT INTO holds VALUES ('req_1', 'org_1', 7, 'held', 1, 1, '{}', 1, '')"
        )
        faults = find_inconsistencies(connection)
    assert faults == [
        "Transaction odd sums to 3, not to 0.",
        "Account org_1:wallet says 5, its entries sum to 8.",
        "Account org_1:held says 0, the open holds sum to 7.",
        "Entry 4 is of an account that does not exist.",
    ]
    database.close()
