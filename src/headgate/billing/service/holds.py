"""Decide a batch of holds: read what they touch once, decide each in order, write once.

All amounts are nano-dollars.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from headgate.billing.model.budgets import (
    STALE,
    BudgetMonth,
    name_counter,
    open_counter,
)
from headgate.billing.model.ledger import (
    LedgerEntry,
    make_hold_entries,
    name_account,
    name_credits,
)
from headgate.billing.model.plans import Plan
from headgate.billing.model.refusals import (
    BudgetExceededError,
    CreditsExhaustedError,
    InsufficientFundsError,
)
from headgate.billing.service import credits
from headgate.billing.service.credits import FindPlan
from headgate.billing.service.transactions import append
from headgate.billing.store import budgets as budget_store
from headgate.billing.store import ledger as store
from headgate.relay.ports import Budget, Hold, HoldRefusedError

MICROSECONDS = 1_000_000
FITTED_SHARE = 2
"""A call that states no limit of its own gets at most one part of so many of what is available, so
that concurrent calls of one wallet all get something, and none of them everything."""


class Funds(msgspec.Struct):
    """Hold what can pay the managed calls of an organization. One without accounts has nothing, and
    gets not even a hold of 0."""

    is_open: bool = False
    wallet_nano: int = 0
    held_nano: int = 0
    credits_nano: int = 0
    plan: Plan | None = None

    @property
    def payable_nano(self) -> int:
        if self.plan is None or self.plan.overage:
            return self.credits_nano + self.wallet_nano
        return self.credits_nano


class HoldBatch:
    """Decide holds one after the other on rows that this transaction has locked.

    `month` is the calendar month (UTC) by the database's clock, in which all of them count.
    """

    def __init__(
        self,
        connection: sa.Connection,
        holds: Sequence[Hold],
        *,
        month: str,
        now: float,
        find_plan: FindPlan,
    ) -> None:
        self._connection = connection
        self._month = month
        self._now = now
        self._find_plan = find_plan
        managed = sorted({hold.organization_id for hold in holds if hold.managed})
        self._funds = {each: Funds() for each in managed}
        self._load_funds()
        wanted = {
            name_counter(budget.scope, budget.scope_id, month): (budget, hold.organization_id)
            for hold in holds
            for budget in hold.budgets
        }
        self._counters = load_counters(connection, wanted, month=month).counters if wanted else {}

    def _load_funds(self) -> None:
        names: dict[str, str] = {}
        accounts: list[str] = []
        for organization_id, funds in self._funds.items():
            funds.plan = self._find_plan(self._connection, organization_id, self._now)
            accounts += [name_account(organization_id, each) for each in ("wallet", "held")]
            if funds.plan is not None:
                names[organization_id] = name_account(organization_id, name_credits(self._month))
        balances = store.lock_balances(self._connection, [*accounts, *names.values()])
        for organization_id, name in names.items():
            plan = self._funds[organization_id].plan
            if name not in balances and plan is not None:
                credits.grant(
                    self._connection, organization_id, plan, month=self._month, at=self._now
                )
                balances |= store.lock_balances(self._connection, [*accounts, name])
        for organization_id, funds in self._funds.items():
            funds.is_open = name_account(organization_id, "wallet") in balances
            funds.wallet_nano = balances.get(name_account(organization_id, "wallet"), 0)
            funds.held_nano = balances.get(name_account(organization_id, "held"), 0)
            funds.credits_nano = balances.get(names.get(organization_id, ""), 0)

    def decide(self, hold: Hold) -> Hold | HoldRefusedError:
        """Return the hold as it is granted, or the error of the first limit that refuses it: the
        budgets, the plan's credits, the wallet."""
        assert hold.amount_nano >= 0, "a hold is not negative"
        fits = hold.amount_min_nano >= 0
        needed = min(hold.amount_min_nano, hold.amount_nano) if fits else hold.amount_nano
        available: list[int] = []
        for budget in hold.budgets:
            counter = self._counters[name_counter(budget.scope, budget.scope_id, self._month)]
            left = counter.find_left(budget)
            if left < needed:
                return BudgetExceededError(budget, counter, needed_nano=needed)
            available.append(left)
        if hold.managed:
            funds = self._funds[hold.organization_id]
            if not funds.is_open or funds.payable_nano < needed:
                return self._refuse(hold.organization_id, funds, needed)
            available.append(funds.payable_nano)
        amount = hold.amount_nano
        if fits and available:
            rest = min(available)
            amount = min(amount, max(needed, rest // FITTED_SHARE if hold.shares_rest else rest))
        return self._take(hold, amount)

    def _refuse(self, organization_id: str, funds: Funds, needed: int) -> HoldRefusedError:
        plan = funds.plan
        if plan is None or plan.overage:
            return InsufficientFundsError(
                needed_nano=needed,
                available_nano=funds.payable_nano,
                held_nano=funds.held_nano,
                scope_id=organization_id,
            )
        return CreditsExhaustedError(
            organization_id=organization_id,
            plan=plan.name,
            needed_nano=needed,
            available_nano=funds.credits_nano,
            held_nano=funds.held_nano,
            limit_nano=plan.credits_nano,
            month=self._month,
        )

    def _take(self, hold: Hold, amount_nano: int) -> Hold:
        credit_nano = 0
        if hold.managed:
            funds = self._funds[hold.organization_id]
            credit_nano = min(funds.credits_nano, amount_nano)
            funds.credits_nano -= credit_nano
            funds.wallet_nano -= amount_nano - credit_nano
            funds.held_nano += amount_nano
        for budget in hold.budgets:
            counter = self._counters[name_counter(budget.scope, budget.scope_id, self._month)]
            counter.add_held(amount_nano, managed=hold.managed)
        return msgspec.structs.replace(
            hold, amount_nano=amount_nano, credit_nano=credit_nano, month=self._month
        )

    def write(self, leased: Sequence[tuple[Hold, int]]) -> None:
        """Write entries, balances, counters and holds, each once. Each hold has the end of its
        lease (unix microseconds)."""
        at = int(self._now * MICROSECONDS)
        entries: list[LedgerEntry] = []
        for hold, _ in leased:
            if hold.managed:
                entries += make_hold_entries(hold)
        append(self._connection, entries, at=at)
        if self._counters:
            budget_store.update_counters(self._connection, list(self._counters.values()))
        store.insert_holds(self._connection, leased, at=at)


class LoadedCounters(msgspec.Struct, frozen=True):
    """Hold locked counters by their ids. `summed` are those that were just set to what all receipts
    say, also those of this transaction."""

    counters: dict[str, BudgetMonth]
    summed: frozenset[str] = frozenset()


def load_counters(
    connection: sa.Connection, wanted: dict[str, tuple[Budget, str]], *, month: str
) -> LoadedCounters:
    """Return the counters of some budgets, each with its organization's id; those that do not exist
    are made first, and those that missed receipts are summed again."""
    counters = budget_store.lock_counters(connection, wanted)
    summed: set[str] = set()
    if len(counters) < len(wanted):
        missing = [
            open_counter(budget, organization_id, month)
            for name, (budget, organization_id) in wanted.items()
            if name not in counters
        ]
        summed |= {each.id for each in missing if budget_store.begin_counter(connection, each)}
        budget_store.insert_counters(connection, missing)
        counters = budget_store.lock_counters(connection, wanted)
    for counter in counters.values():
        if counter.state == STALE:
            budget_store.sum_again(connection, counter)
            summed.add(counter.id)
    return LoadedCounters(counters, frozenset(summed))
