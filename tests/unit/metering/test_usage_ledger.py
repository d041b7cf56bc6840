"""Usage over random workloads: its totals are those of the ledger, to the nano-dollar."""

from __future__ import annotations

import asyncio
import datetime
import tempfile
from collections import Counter
from pathlib import Path
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from headgate.accounts.model import Organization
from headgate.accounts.store import tenants
from headgate.billing.model.ledger import name_account
from headgate.billing.service.ledger import Ledger, find_inconsistencies
from headgate.billing.service.reconciliation import correct
from headgate.billing.store import ledger as ledger_store
from headgate.kit import outbox
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from headgate.llm.usage import Usage
from headgate.metering.model import MICROSECONDS
from headgate.metering.model.usage_groups import parse_group_by
from headgate.metering.service.roll_up import rebuild_some, roll_up_step
from headgate.metering.service.usage import UsageAnswer, UsageRequest, query_usage
from headgate.metering.store.usage import UsageFilter
from headgate.relay.ports import Hold, Receipt
from tests.fakes.example_receipt import make_receipt

OWNER = "org_1"
START = datetime.datetime(2026, 3, 27, tzinfo=datetime.UTC).timestamp()
DAYS = 4
NOW = START + DAYS * 86_400
HELD = 1_000


class FixedClock:
    def now(self) -> float:
        return NOW

    def monotonic(self) -> float:
        return NOW


class Call(msgspec.Struct, frozen=True):
    at: float
    managed: bool
    cost_nano: int
    key: int
    model: str
    outcome: str
    tokens: int
    corrected_nano: int | None


CALLS = st.builds(
    Call,
    at=st.integers(0, DAYS * 86_400 - 1).map(lambda second: START + second),
    managed=st.booleans(),
    cost_nano=st.integers(0, HELD),
    key=st.integers(1, 3),
    model=st.sampled_from(["gpt-5.4", "gpt-5.4-mini", "o3"]),
    outcome=st.sampled_from(["completed", "completed", "cancelled", "upstream_error"]),
    tokens=st.integers(0, 2**40),
    corrected_nano=st.none() | st.integers(0, 2 * HELD),
)


def to_receipt(number: int, call: Call) -> Receipt:
    return make_receipt(
        request_id=f"req_{number}",
        created_at=call.at,
        organization_id=OWNER,
        key_id=f"key_{call.key}",
        model_requested=call.model,
        managed=call.managed,
        outcome=call.outcome,
        usage=Usage(input_tokens=call.tokens),
        cost_nano=call.cost_nano,
    )


class Workload:
    """Make calls on a fresh database, with roll-ups between them."""

    def __init__(self, folder: str) -> None:
        self.database = Database(Path(folder) / "test.db")
        with self.database.transaction() as connection:
            METADATA.create_all(connection)
            tenants.insert_organization(connection, Organization(OWNER, "One", 1.0))

    async def run(self, calls: list[Call], rolled_up: list[int]) -> None:
        writer = Writer(self.database)
        writer.start()
        ledger = Ledger(writer, FixedClock(), read_wanted=outbox.want_nothing)
        await ledger.fund(OWNER, 10**9, reference="all")
        for number, call in enumerate(calls):
            receipt = to_receipt(number, call)
            hold = Hold(receipt.request_id, OWNER, HELD) if call.managed else None
            if hold is not None:
                await ledger.hold(hold)
            await ledger.record(receipt, hold)
            if number in rolled_up:
                await writer.call(lambda connection: roll_up_step(connection, 3))
            corrected = call.corrected_nano
            if corrected is not None:
                await writer.call(
                    lambda connection, id_=receipt.request_id, cost=corrected: correct(
                        connection, id_, cost, at=NOW - 1
                    )
                )
        await writer.stop()

    def ask(self, group_by: str, zone: str, **filters: Any) -> UsageAnswer:
        granularity, dimensions = parse_group_by([name for name in group_by.split(",") if name])
        query = UsageRequest(
            filters=UsageFilter(organization_id=OWNER, **filters),
            start=int(START * MICROSECONDS),
            end=int(NOW * MICROSECONDS),
            zone=zone,
            granularity=granularity,
            group_by=dimensions,
            limit=100_000,
        )
        with self.database.reading() as connection:
            return query_usage(connection, query)


@settings(max_examples=25, deadline=None)
@given(
    calls=st.lists(CALLS, max_size=25),
    rolled_up=st.lists(st.integers(0, 24), max_size=8),
    zone=st.sampled_from(["UTC", "Europe/Berlin", "Asia/Kathmandu", "America/St_Johns"]),
    group_by=st.sampled_from(["", "day", "hour,model", "key,model", "month,managed"]),
)
def test_totals_are_those_of_the_ledger(
    calls: list[Call], rolled_up: list[int], zone: str, group_by: str
) -> None:
    with tempfile.TemporaryDirectory() as folder:
        workload = Workload(folder)
        asyncio.run(workload.run(calls, rolled_up))
        try:
            check(workload, calls, zone, group_by)
            with workload.database.transaction() as connection:
                tenants.update_organization(connection, OWNER, {"reporting_zone": zone})
                while rebuild_some(connection):
                    pass
            check(workload, calls, zone, group_by)
        finally:
            workload.database.close()


def check(workload: Workload, calls: list[Call], zone: str, group_by: str) -> None:
    with workload.database.reading() as connection:
        assert find_inconsistencies(connection) == []
        revenue = ledger_store.read_balance(connection, name_account(OWNER, "revenue"))
    assert workload.ask("", zone, managed=True).total.cost_nano == revenue
    costs = [
        call.cost_nano if call.corrected_nano is None else call.corrected_nano for call in calls
    ]
    answer = workload.ask(group_by, zone)
    assert answer.total.cost_nano == sum(costs)
    assert answer.total.requests == len(calls)
    assert answer.total.completed == sum(call.outcome == "completed" for call in calls)
    assert answer.total.input_tokens == sum(call.tokens for call in calls)
    for name in ("cost_nano", "wallet_nano", "requests", "input_tokens", "errors", "histogram"):
        total = getattr(answer.total, name)
        assert total == sum(getattr(row.measures, name) for row in answer.rows)
    by_key: Counter[str] = Counter()
    for call, cost in zip(calls, costs, strict=True):
        by_key[f"key_{call.key}"] += cost
    rows = {row.group[0]: row.measures.cost_nano for row in workload.ask("key", zone).rows}
    assert rows == {f"key_{call.key}": by_key[f"key_{call.key}"] for call in calls}
