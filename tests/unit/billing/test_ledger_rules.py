"""The rules of the ledger to the unit and to the field, and the statements that carry them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

import msgspec
import pytest
import sqlalchemy as sa
from hypothesis import given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from headgate.billing.model.ledger import (
    HoldNotFoundError,
    LedgerEntry,
    ReferenceConflictError,
    make_excess_entries,
    make_hold_entries,
    make_settlement_entries,
    make_transaction,
    make_unknown_receipt,
)
from headgate.billing.model.receipts import name_transactions
from headgate.billing.model.refusals import InsufficientFundsError
from headgate.billing.service.ledger import Ledger, fund, read_available
from headgate.billing.store import ledger as store
from headgate.kit import outbox
from headgate.kit.clock import SystemClock
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from headgate.kit.errors import Kind
from headgate.kit.money import divide_half_up, format_dollars, nano_from_dollars
from headgate.relay.ports import Hold, Receipt
from headgate.relay.targets import ATTEMPTS_MAX, TARGETS_MAX

HOLD = Hold(
    "req_1",
    "org_1",
    400,
    project_id="prj_1",
    key_id="key_1",
    credential_id="crd_1",
    endpoint="/v1/responses",
    method="POST",
    provider="openai",
    model="gpt-4o",
    price_id="price_1",
)
_T = TypeVar("_T")
amounts = st.integers(0, 10**15)


@pytest.fixture
def connection(empty_place: Path | str) -> Iterator[sa.Connection]:
    database = Database(empty_place)
    with database.transaction() as connection:
        METADATA.create_all(connection)
        yield connection
    database.close()


def add_up(entries: list[LedgerEntry]) -> dict[str, int]:
    return {line.account_id: line.amount_nano for line in entries}


def test_hold_moves_its_amount_under_its_request() -> None:
    assert make_hold_entries(HOLD) == [
        LedgerEntry("hold:req_1", "org_1:wallet", -400, "req_1"),
        LedgerEntry("hold:req_1", "org_1:held", 400, "req_1"),
    ]


def test_settlement_moves_cost_and_rest_under_its_request() -> None:
    assert make_settlement_entries(HOLD, 150) == [
        LedgerEntry("settle:req_1", "org_1:held", -400, "req_1"),
        LedgerEntry("settle:req_1", "org_1:revenue", 150, "req_1"),
        LedgerEntry("settle:req_1", "org_1:wallet", 250, "req_1"),
    ]
    assert add_up(make_settlement_entries(HOLD, 400)) == {"org_1:held": -400, "org_1:revenue": 400}


def test_excess_is_paid_by_the_wallet_first_under_its_request() -> None:
    assert make_excess_entries(HOLD, 450, wallet_nano=20) == [
        LedgerEntry("excess:req_1", "org_1:wallet", -20, "req_1"),
        LedgerEntry("excess:req_1", "org_1:overspend", -30, "req_1"),
        LedgerEntry("excess:req_1", "org_1:revenue", 50, "req_1"),
    ]


@given(amounts, amounts, amounts)
def test_whatever_a_call_costs_is_billed_to_the_unit(held: int, cost: int, wallet: int) -> None:
    hold = Hold("req_1", "org_1", held)
    entries = make_settlement_entries(hold, cost)
    if cost > held:
        entries = entries + make_excess_entries(hold, cost, wallet_nano=wallet)
    assert sum(line.amount_nano for line in entries) == 0
    of: dict[str, int] = dict.fromkeys(("wallet", "held", "revenue", "overspend"), 0)
    for line in entries:
        of[line.account_id.removeprefix("org_1:")] += line.amount_nano
    assert (of["held"], of["revenue"]) == (-held, cost)
    assert of["wallet"] == max(held - cost, -wallet)
    assert of["overspend"] == min(0, held + wallet - cost)


def test_transaction_that_does_not_sum_to_zero_is_a_fault_of_the_code() -> None:
    assert make_transaction("t", "org_1", [("wallet", 0), ("held", 0)]) == []
    with pytest.raises(AssertionError):
        make_transaction("t", "org_1", [("wallet", 1)])
    with pytest.raises(AssertionError):
        make_transaction("t", "org_1", [("wallet", -1)])
    (line, _) = make_transaction("t", "org_1", [("wallet", 1), ("held", -1)])
    assert line == LedgerEntry("t", "org_1:wallet", 1, "")


def test_receipt_of_a_call_that_never_ended_says_so_in_every_field() -> None:
    assert make_unknown_receipt(HOLD, created_at=7.5) == Receipt(
        request_id="req_1",
        created_at=7.5,
        organization_id="org_1",
        project_id="prj_1",
        key_id="key_1",
        credential_id="crd_1",
        managed=True,
        endpoint="/v1/responses",
        method="POST",
        provider="openai",
        model_requested="gpt-4o",
        model_served=None,
        answer_id=None,
        upstream_request_id=None,
        correlation_id=None,
        status=0,
        outcome="unknown",
        error_code="hold_expired",
        streamed=False,
        usage=None,
        estimated=True,
        service_tier=None,
        pricing="priced",
        unpriced_reason=None,
        price_id="price_1",
        cost_nano=400,
        attempts=0,
        first_byte_microseconds=-1,
        upstream_microseconds=-1,
        total_microseconds=-1,
        overhead_microseconds=-1,
    )


def test_refusal_for_want_of_money_says_both_amounts_and_what_to_do() -> None:
    refusal = InsufficientFundsError(needed_nano=1_500_000_000, available_nano=250)
    assert refusal.kind is Kind.UNPAID
    assert refusal.should_retry is False
    assert refusal.message == (
        "This call can cost up to 1.500000000 US dollars and the wallet has 0.000000250 "
        "available. Top up the wallet, or lower the limit of output tokens."
    )


def test_grant_opens_the_accounts_and_is_known_by_its_reference(connection: sa.Connection) -> None:
    assert fund(connection, "org_1", amount_nano=5, reference="a", now=2.5) is True
    entries = connection.execute(sa.select(store.ENTRIES).order_by(store.ENTRIES.c.id)).all()
    assert [tuple(row)[1:] for row in entries] == [
        ("fund:org_1:a", "org_1:funding", -5, "", 2_500_000),
        ("fund:org_1:a", "org_1:wallet", 5, "", 2_500_000),
    ]
    accounts = connection.execute(sa.select(store.LEDGER_ACCOUNTS)).all()
    assert {tuple(row) for row in accounts} == {
        ("org_1:wallet", "org_1", "wallet", 5),
        ("org_1:held", "org_1", "held", 0),
        ("org_1:revenue", "org_1", "revenue", 0),
        ("org_1:funding", "org_1", "funding", -5),
        ("org_1:overspend", "org_1", "overspend", 0),
    }
    assert fund(connection, "org_1", amount_nano=5, reference="a", now=9.0) is False
    with pytest.raises(
        ReferenceConflictError, match="'a' was used for another amount; choose"
    ) as caught:
        fund(connection, "org_1", amount_nano=6, reference="a", now=9.0)
    assert caught.value.param == "reference"
    assert fund(connection, "org_2", amount_nano=6, reference="a", now=9.0) is True
    assert (read_available(connection, "org_1"), read_available(connection, "org_2")) == (5, 6)
    assert read_available(connection, "org_3") == 0


@pytest.fixture
def server_database(empty_place: Path | str) -> Iterator[Database]:
    database = Database(empty_place)
    with database.transaction() as connection:
        METADATA.create_all(connection)
        fund(connection, "org_1", amount_nano=1000, reference="start", now=1.0)
    yield database
    database.close()


def work(database: Database, task: Callable[[Ledger], Awaitable[_T]]) -> _T:
    """Run a task with a ledger on this database, and return its result."""

    async def run() -> _T:
        writer = Writer(database)
        writer.start()
        try:
            return await task(Ledger(writer, SystemClock(), read_wanted=outbox.want_nothing))
        finally:
            await writer.stop()

    return asyncio.run(run())


def test_grants_of_two_references_are_two_grants(server_database: Database) -> None:
    async def grant(ledger: Ledger) -> list[bool]:
        return [await ledger.fund("org_1", 5, reference=name) for name in ("a", "b", "a")]

    assert work(server_database, grant) == [True, True, False]
    with server_database.reading() as connection:
        assert read_available(connection, "org_1") == 1010


def test_calls_that_never_ended_are_counted_in_the_log(server_database: Database) -> None:
    async def abandon(ledger: Ledger) -> int:
        await ledger.hold(HOLD)
        await ledger.hold(msgspec.structs.replace(HOLD, request_id="req_2"))
        assert await ledger.resolve_abandoned() == 2
        return await ledger.resolve_abandoned()

    with capture_logs() as entries:
        assert work(server_database, abandon) == 0
    assert entries == [{"event": "ledger.calls_unknown", "calls": 2, "log_level": "warning"}]


def test_cost_above_the_hold_is_in_the_log(server_database: Database) -> None:
    receipt = make_unknown_receipt(HOLD, created_at=1.0)

    async def settle_above(ledger: Ledger) -> None:
        await ledger.hold(HOLD)
        await ledger.record(msgspec.structs.replace(receipt, cost_nano=401), HOLD)

    with capture_logs() as entries:
        work(server_database, settle_above)
    event = {"event": "ledger.cost_above_hold", "request_id": "req_1", "log_level": "warning"}
    assert entries == [event]


def test_settlement_of_an_unknown_hold_names_it_and_says_that_nothing_was_recorded(
    server_database: Database,
) -> None:
    async def settle_nothing(ledger: Ledger) -> None:
        await ledger.record(make_unknown_receipt(HOLD, created_at=1.0), HOLD)

    with pytest.raises(HoldNotFoundError, match=r"among: req_1\. Nothing was recorded\.$"):
        work(server_database, settle_nothing)


def test_receipt_settles_its_own_hold_and_no_other(server_database: Database) -> None:
    async def settle_another(ledger: Ledger) -> None:
        other = msgspec.structs.replace(HOLD, request_id="req_2")
        await ledger.record(make_unknown_receipt(HOLD, created_at=1.0), other)

    with pytest.raises(AssertionError):
        work(server_database, settle_another)


@pytest.mark.parametrize("amount_nano", [0, -1])
def test_grant_of_nothing_is_a_fault_of_the_code(
    connection: sa.Connection, amount_nano: int
) -> None:
    with pytest.raises(AssertionError):
        fund(connection, "org_1", amount_nano=amount_nano, reference="a", now=1.0)


def test_grant_of_the_smallest_unit_is_one(connection: sa.Connection) -> None:
    assert fund(connection, "org_1", amount_nano=1, reference="a", now=1.0) is True
    assert read_available(connection, "org_1") == 1


def test_wallet_gives_its_last_unit_and_no_more(server_database: Database) -> None:
    async def spend(ledger: Ledger) -> list[int]:
        granted: list[int] = []
        for number, amount_nano in enumerate((1_001, 1_000, 1, 0)):
            hold = msgspec.structs.replace(
                HOLD, request_id=f"req_{number}", amount_nano=amount_nano
            )
            with contextlib.suppress(InsufficientFundsError):
                granted.append((await ledger.hold(hold)).amount_nano)
        return granted

    assert work(server_database, spend) == [1_000, 0]


def test_balances_of_accounts_that_do_not_exist_are_a_fault_of_the_code(
    connection: sa.Connection,
) -> None:
    fund(connection, "org_1", amount_nano=5, reference="a", now=1.0)
    store.add_balances(connection, [])
    known, unknown = (
        LedgerEntry("t", "org_1:wallet", 1, ""),
        LedgerEntry("t", "org_9:wallet", -1, ""),
    )
    with pytest.raises(AssertionError):
        store.add_balances(connection, [known, unknown])


def test_holds_are_listed_by_the_age_of_their_lease_and_closed_once(
    connection: sa.Connection,
) -> None:
    holds = [msgspec.structs.replace(HOLD, request_id=f"req_{number}") for number in range(4)]
    for hold, lease_until in zip(holds, (40, 10, 30, 20), strict=True):
        store.insert_holds(connection, [(hold, lease_until)], at=5)
    row = connection.execute(sa.select(store.HOLDS)).first()
    assert row is not None
    assert tuple(row)[:6] == ("req_0", "org_1", 400, "held", 40, 5)
    listed = store.list_open_holds(connection, expired_at=None, rows_max=9)
    assert listed == [holds[1], holds[3], holds[2], holds[0]]
    assert store.list_open_holds(connection, expired_at=None, rows_max=2) == listed[:2]
    assert store.list_open_holds(connection, expired_at=30, rows_max=9) == listed[:2]
    assert store.list_open_holds(connection, expired_at=31, rows_max=9) == listed[:3]
    assert store.close_holds(connection, [("settled", "req_1", 399)]) == 0
    assert store.close_holds(connection, [("settled", "req_1", 400)]) == 1
    assert store.close_holds(connection, [("released", "req_1", 400)]) == 0
    assert store.list_open_holds(connection, expired_at=None, rows_max=9) == listed[1:]


def test_transaction_is_read_by_its_name(connection: sa.Connection) -> None:
    fund(connection, "org_1", amount_nano=5, reference="a", now=1.0)
    assert store.read_transaction(connection, "fund:org_1:a") == {
        "org_1:wallet": 5,
        "org_1:funding": -5,
    }
    assert store.read_transaction(connection, "fund:org_1:b") == {}


@pytest.mark.parametrize(
    ("amount", "divisor", "quotient"),
    [(5, 2, 3), (-5, 2, -3), (4, 2, 2), (4, 3, 1), (5, 3, 2), (-4, 3, -1), (0, 7, 0), (1, 1, 1)],
)
def test_halves_are_rounded_away_from_zero(amount: int, divisor: int, quotient: int) -> None:
    assert divide_half_up(amount, divisor) == quotient


def test_dollars_and_nano_dollars_are_the_same_money() -> None:
    assert nano_from_dollars("12.5") == 12_500_000_000
    assert nano_from_dollars("-0.000000001") == -1
    assert format_dollars(12_500_000_001) == "12.500000001"
    assert format_dollars(-1) == "-0.000000001"
    assert format_dollars(0) == "0.000000000"
    with pytest.raises(ValueError, match=r"0\.0000000001 dollars is not a whole number of nano"):
        nano_from_dollars("0.0000000001")


@pytest.mark.parametrize("index", [0, 1, TARGETS_MAX, ATTEMPTS_MAX - 1])
def test_entries_of_every_target_of_a_call_are_found(index: int) -> None:
    hold = msgspec.structs.replace(HOLD, target_index=index)
    lost = f"{hold.request_id}.a{index}" if index else ""
    billed = msgspec.structs.replace(hold, request_id=lost or hold.request_id)
    entries = [
        *make_hold_entries(hold),
        *make_settlement_entries(hold, 100, lost),
        *make_excess_entries(billed, 500, wallet_nano=0),
    ]
    known = name_transactions(hold.request_id, ())
    assert [each.transaction_id for each in entries if each.transaction_id not in known] == []
