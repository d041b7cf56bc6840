"""A ledger on a database of its own, with a clock that the test sets, and budgets and plans."""

from __future__ import annotations

import contextlib
from collections.abc import AsyncGenerator
from pathlib import Path

import msgspec
import sqlalchemy as sa

from headgate.billing.model.budgets import BudgetMonth, format_thresholds, name_month
from headgate.billing.model.plans import Plan
from headgate.billing.service.budget_index import BudgetIndex
from headgate.billing.service.ledger import Ledger, find_inconsistencies, fund
from headgate.billing.store import budgets as budget_store
from headgate.billing.store import ledger as store
from headgate.kit import outbox
from headgate.kit.db.engine import Database
from headgate.kit.db.schema import METADATA
from headgate.kit.db.writer import Writer
from headgate.relay.ports import Budget, Hold, Receipt
from tests.fakes import example_receipt

ORG = "org_1"
NOVEMBER = 1_795_000_000.0
"""A time in November 2026 (UTC)."""
MONTH = name_month(NOVEMBER)


class SetClock:
    """Tell the time that a test sets."""

    def __init__(self, time: float = NOVEMBER) -> None:
        self.time = time

    def now(self) -> float:
        return self.time

    def monotonic(self) -> float:
        return self.time


class LedgerHarness:
    """Run one process: its writer, its ledger and its index of budgets."""

    def __init__(self, database: Database, clock: SetClock) -> None:
        self.database = database
        self.clock = clock
        self.budgets = BudgetIndex()
        self.plans: dict[str, Plan] = {}
        self.writer = Writer(database)
        self.writer.start()
        self.ledger = Ledger(
            self.writer,
            clock,
            read_wanted=outbox.want_everything,
            budgets=self.budgets,
            find_plan=lambda _connection, organization_id, _at: self.plans.get(organization_id),
        )

    def set_budget(self, budget: Budget, *, organization_id: str = ORG) -> Budget:
        """Set the budget of a project or organization, in the database and in this process."""
        row = {
            "scope": budget.scope,
            "scope_id": budget.scope_id,
            "organization_id": organization_id,
            "limit_nano": budget.limit_nano,
            "managed_only": int(budget.managed_only),
            "thresholds": format_thresholds(budget.thresholds),
            "version": 1,
            "created_at": self.clock.now(),
            "updated_at": self.clock.now(),
        }
        with self.database.transaction() as connection:
            self._delete(connection, budget)
            connection.execute(sa.insert(budget_store.BUDGETS).values(row))
            self.budgets.load(connection)
        return budget

    def remove_budget(self, budget: Budget) -> None:
        with self.database.transaction() as connection:
            self._delete(connection, budget)
            self.budgets.load(connection)

    def _delete(self, connection: sa.Connection, budget: Budget) -> None:
        table = budget_store.BUDGETS
        matches = (table.c.scope == budget.scope, table.c.scope_id == budget.scope_id)
        connection.execute(sa.delete(table).where(*matches))

    def read_counter(self, budget: Budget, month: str = MONTH) -> BudgetMonth | None:
        name = f"{budget.scope}:{budget.scope_id}:{month}"
        with self.database.transaction() as connection:
            return budget_store.lock_counters(connection, [name]).get(name)

    def read_accounts(self) -> dict[str, int]:
        """Return the balances that are not 0, by the names of their accounts."""
        table = store.LEDGER_ACCOUNTS.c
        with self.database.reading() as connection:
            rows = connection.execute(sa.select(table.id, table.balance_nano))
            return {name.partition(":")[2]: nano for name, nano in rows if nano}

    def read_events(self, topic: str) -> list[dict[str, object]]:
        query = sa.select(outbox.OUTBOX.c.payload).where(outbox.OUTBOX.c.topic == topic)
        with self.database.reading() as connection:
            return [msgspec.json.decode(row) for row in connection.execute(query).scalars()]


@contextlib.asynccontextmanager
async def running_ledger(
    place: Path | str, *, funded_nano: int = 1_000, clock: SetClock | None = None
) -> AsyncGenerator[LedgerHarness]:
    """Run a ledger on an empty place; its books must add up at the end."""
    database = Database(place)
    with database.transaction() as connection:
        METADATA.create_all(connection)
        if funded_nano:
            fund(connection, ORG, amount_nano=funded_nano, reference="start", now=1.0)
    harness = LedgerHarness(database, clock or SetClock())
    try:
        yield harness
    finally:
        await harness.writer.stop()
    with database.reading() as connection:
        assert find_inconsistencies(connection) == []
    database.close()


def make_hold(
    request_id: str,
    amount_nano: int,
    *budgets: Budget,
    managed: bool = True,
    amount_min_nano: int = -1,
    organization_id: str = ORG,
) -> Hold:
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
        managed=managed,
        budgets=budgets,
        amount_min_nano=amount_min_nano,
    )


def make_receipt(hold: Hold, cost_nano: int, *, created_at: float = NOVEMBER) -> Receipt:
    """Return the receipt of a completed call."""
    return example_receipt.make_receipt(
        request_id=hold.request_id,
        created_at=created_at,
        organization_id=hold.organization_id,
        project_id=hold.project_id,
        key_id=hold.key_id,
        managed=hold.managed,
        cost_nano=cost_nano,
        credit_nano=min(hold.credit_nano, cost_nano),
    )
