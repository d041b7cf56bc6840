"""The ledger against a model of it in plain Python, under random histories."""

from __future__ import annotations

import asyncio
import tempfile
from pathlib import Path

import sqlalchemy as sa
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from headgate.billing.model.refusals import InsufficientFundsError
from headgate.billing.service.ledger import Ledger, find_inconsistencies, read_available
from headgate.billing.store import ledger as store
from headgate.kit import outbox
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from headgate.metering import store as metering
from headgate.relay.ports import Hold, Receipt
from tests.fakes.postgres import Postgres
from tests.fakes.state_machines import LIMITS, run_on_postgresql

ORGANIZATIONS: tuple[str, ...] = ("org_a", "org_b")
LEASE_SECONDS = 50.0


class ManualClock:
    def __init__(self) -> None:
        self.time = 1_000_000.0

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


def make_receipt(hold: Hold, cost_nano: int) -> Receipt:
    return Receipt(
        request_id=hold.request_id,
        created_at=1_000_000.0,
        organization_id=hold.organization_id,
        project_id="",
        key_id="",
        credential_id=None,
        managed=True,
        endpoint="",
        method="",
        provider="",
        model_requested=None,
        model_served=None,
        answer_id=None,
        upstream_request_id=None,
        correlation_id=None,
        status=200,
        outcome="completed",
        error_code=None,
        streamed=False,
        usage=None,
        estimated=False,
        service_tier=None,
        pricing="priced",
        unpriced_reason=None,
        price_id=None,
        cost_nano=cost_nano,
        attempts=1,
        first_byte_microseconds=0,
        upstream_microseconds=0,
        total_microseconds=0,
        overhead_microseconds=0,
    )


class LedgerAgainstModel(RuleBasedStateMachine):
    """Compare the ledger with a model: wallets, open holds with their leases, and bills."""

    def __init__(self) -> None:
        super().__init__()
        self.directory = tempfile.TemporaryDirectory()
        self.database = self.open_database()
        self.clock = ManualClock()
        self.runner = asyncio.Runner()
        self.wallets = dict.fromkeys(ORGANIZATIONS, 0)
        self.owed = dict.fromkeys(ORGANIZATIONS, 0)
        self.funded = dict.fromkeys(ORGANIZATIONS, 0)
        self.grants: set[tuple[str, int]] = set()
        self.open: dict[str, tuple[Hold, float]] = {}
        self.billed: dict[str, tuple[str, int]] = {}
        self.known: dict[str, Hold] = {}
        self.unknown: set[str] = set()
        """Calls that were billed at their hold because their lease ended."""

    def open_database(self) -> Database:
        return Database(Path(self.directory.name) / "test.db")

    @initialize()
    def start(self) -> None:
        with self.database.transaction() as connection:
            METADATA.create_all(connection)
        self.runner.run(self.begin())

    async def begin(self) -> None:
        self.writer = Writer(self.database)
        self.writer.start()
        self.ledger = Ledger(
            self.writer,
            self.clock,
            read_wanted=outbox.want_nothing,
            lease_seconds=LEASE_SECONDS,
        )

    async def hold_all(self, holds: list[Hold]) -> list[BaseException | None]:
        results = await asyncio.gather(
            *[self.ledger.hold(hold) for hold in holds], return_exceptions=True
        )
        return [None if isinstance(result, Hold) else result for result in results]

    async def record_all(self, pairs: list[tuple[Receipt, Hold]]) -> None:
        await asyncio.gather(*[self.ledger.record(receipt, hold) for receipt, hold in pairs])

    def settle_in_model(self, settlements: list[tuple[Hold, int]]) -> None:
        """Settle a batch: release all holds first, then charge what exceeds them."""
        for hold, cost_nano in settlements:
            del self.open[hold.request_id]
            rest = hold.amount_nano - min(cost_nano, hold.amount_nano)
            self.wallets[hold.organization_id] += rest
            self.billed[hold.request_id] = hold.organization_id, cost_nano
        for hold, cost_nano in settlements:
            excess = max(0, cost_nano - hold.amount_nano)
            paid = min(excess, self.wallets[hold.organization_id])
            self.wallets[hold.organization_id] -= paid
            self.owed[hold.organization_id] += excess - paid

    def correct_in_model(self, hold: Hold, cost_nano: int) -> None:
        """Correct a bill once: what it is less pays debt and then returns to the wallet, and what
        it is more is taken from the wallet or becomes debt."""
        self.unknown.remove(hold.request_id)
        organization_id, difference = hold.organization_id, cost_nano - hold.amount_nano
        if not difference:
            return
        self.billed[f"{hold.request_id}.c1"] = organization_id, difference
        paid = min(max(difference, 0), self.wallets[organization_id])
        repaid = min(max(-difference, 0), self.owed[organization_id])
        self.wallets[organization_id] += max(-difference, 0) - repaid - paid
        self.owed[organization_id] += max(difference, 0) - paid - repaid

    @rule(organization_id=st.sampled_from(ORGANIZATIONS), grant=st.integers(1, 12))
    def fund(self, organization_id: str, grant: int) -> None:
        async def grant_it() -> bool:
            return await self.ledger.fund(organization_id, grant * 100, reference=str(grant))

        new = (organization_id, grant) not in self.grants
        assert self.runner.run(grant_it()) is new
        if new:
            self.grants.add((organization_id, grant))
            repaid = min(self.owed[organization_id], grant * 100)
            self.owed[organization_id] -= repaid
            self.wallets[organization_id] += grant * 100 - repaid
            self.funded[organization_id] += grant * 100

    @rule(
        wanted=st.lists(
            st.tuples(st.sampled_from(ORGANIZATIONS), st.integers(0, 700)), min_size=1, max_size=6
        )
    )
    def hold(self, wanted: list[tuple[str, int]]) -> None:
        holds = [
            Hold(f"req_{len(self.known) + index}", organization_id, amount)
            for index, (organization_id, amount) in enumerate(wanted)
        ]
        results = self.runner.run(self.hold_all(holds))
        for hold, result in zip(holds, results, strict=True):
            self.known[hold.request_id] = hold
            if self.funded[hold.organization_id] and (
                hold.amount_nano <= self.wallets[hold.organization_id]
            ):
                assert result is None
                self.wallets[hold.organization_id] -= hold.amount_nano
                self.open[hold.request_id] = hold, self.clock.time + LEASE_SECONDS
            else:
                assert isinstance(result, InsufficientFundsError)

    @precondition(lambda self: self.open)
    @rule(data=st.data(), repeats=st.integers(1, 3))
    def settle(self, data: st.DataObject, repeats: int) -> None:
        chosen = data.draw(
            st.lists(st.sampled_from(sorted(self.open)), min_size=1, max_size=4, unique=True)
        )
        holds = [self.open[request_id][0] for request_id in chosen]
        settlements = [
            (hold, data.draw(st.integers(0, hold.amount_nano + 200), label="cost"))
            for hold in holds
        ]
        # A batch with repetitions in it is done one by one.
        for batch in [settlements] if repeats == 1 else [[one] for one in settlements]:
            self.settle_in_model(batch)
        pairs = [(make_receipt(hold, cost_nano), hold) for hold, cost_nano in settlements]
        self.runner.run(self.record_all(pairs * repeats))

    @precondition(lambda self: self.billed)
    @rule(data=st.data())
    def settle_again_at_another_cost(self, data: st.DataObject) -> None:
        hold = self.known[
            data.draw(st.sampled_from(sorted(self.billed.keys() & self.known.keys())))
        ]
        self.runner.run(self.record_all([(make_receipt(hold, 1), hold)]))
        if hold.request_id in self.unknown:
            self.correct_in_model(hold, 1)

    @rule(seconds=st.integers(0, 150))
    def wait_and_resolve(self, seconds: int) -> None:
        self.clock.time += seconds
        expired = [hold for hold, until in self.open.values() if until < self.clock.time]
        assert self.runner.run(self.ledger.resolve_expired()) == len(expired)
        self.settle_in_model([(hold, hold.amount_nano) for hold in expired])
        self.unknown |= {hold.request_id for hold in expired}

    @rule()
    def restart(self) -> None:
        self.runner.run(self.writer.stop())
        self.runner.run(self.begin())

    @invariant()
    def the_books_add_up(self) -> None:
        """Check that transactions sum to 0, and that balances and held amounts match their rows."""
        with self.database.reading() as connection:
            if not sa.inspect(connection).has_table("entries"):
                return
            assert find_inconsistencies(connection) == []
            total = sa.select(sa.func.coalesce(sa.func.sum(store.ENTRIES.c.amount_nano), 0))
            assert connection.execute(total).scalar_one() == 0

    @invariant()
    def every_account_is_as_in_the_model(self) -> None:
        """Compare wallet, held, revenue, overspend and funding with the model, to the unit."""
        for organization_id in ORGANIZATIONS:
            if not self.funded[organization_id]:
                continue
            with self.database.reading() as connection:
                accounts = store.LEDGER_ACCOUNTS.c
                rows = connection.execute(
                    sa.select(accounts.kind, accounts.balance_nano).where(
                        accounts.organization_id == organization_id
                    )
                )
                found = {row.kind: row.balance_nano for row in rows}
                assert (
                    read_available(connection, organization_id)
                    == self.wallets[organization_id]
                    >= 0
                )
            held = [hold for hold, _ in self.open.values()]
            bills = [cost for owner, cost in self.billed.values() if owner == organization_id]
            assert found == {
                "wallet": self.wallets[organization_id],
                "held": sum(h.amount_nano for h in held if h.organization_id == organization_id),
                "revenue": sum(bills),
                "overspend": -self.owed[organization_id],
                "funding": -self.funded[organization_id],
            }

    @invariant()
    def every_bill_has_one_receipt_of_that_cost(self) -> None:
        with self.database.reading() as connection:
            if not sa.inspect(connection).has_table("receipts"):
                return
            assert metering.count(connection) == len(self.billed)
            for organization_id in ORGANIZATIONS:
                bills = [cost for owner, cost in self.billed.values() if owner == organization_id]
                costs = sa.select(metering.RECEIPTS.c.cost_nano).where(
                    metering.RECEIPTS.c.organization_id == organization_id
                )
                assert sorted(connection.execute(costs).scalars()) == sorted(bills)

    def teardown(self) -> None:
        self.runner.run(self.writer.stop())
        self.runner.close()
        self.database.close()
        self.directory.cleanup()


TestLedgerAgainstModel = LedgerAgainstModel.TestCase
TestLedgerAgainstModel.settings = LIMITS


def test_ledger_on_postgresql_is_the_model_too(postgres: Postgres) -> None:
    run_on_postgresql(LedgerAgainstModel, postgres)
