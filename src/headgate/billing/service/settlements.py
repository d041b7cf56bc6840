"""Settle a batch of calls: close their holds, bill their costs, count them in their budgets.

All amounts are nano-dollars.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Protocol

import msgspec
import sqlalchemy as sa
import structlog

from headgate.billing.events import UsageThresholdReached
from headgate.billing.model.budgets import BudgetMonth, name_counter
from headgate.billing.model.ledger import (
    HoldNotFoundError,
    make_excess_entries,
    make_settlement_entries,
    name_account,
)
from headgate.billing.service.holds import load_counters
from headgate.billing.service.transactions import append
from headgate.billing.store import budgets as budget_store
from headgate.billing.store import ledger as store
from headgate.relay.ports import Budget, Hold, Receipt

Settled = tuple[Receipt, Hold]

log = structlog.get_logger(__name__)


class CountedBudgets(Protocol):
    """Find the budgets that a receipt counts in, from memory. `organizations` have any."""

    @property
    def organizations(self) -> Container[str]: ...

    def find_counting(self, receipt: Receipt) -> Sequence[Budget]:
        """Return the budgets of the call's key, project and organization, whatever they count."""
        ...


def find_granted(connection: sa.Connection, settled: Sequence[Settled]) -> list[Settled]:
    """Return the settlements with their holds as they were granted.

    A call that was cut off while it waited for its hold knows only what it asked for.
    """
    asked = [hold.request_id for _, hold in settled if not hold.month]
    if not asked:
        return list(settled)
    granted = {hold.request_id: hold for hold in store.lock_open_holds(connection, asked)}
    return [(receipt, granted.get(hold.request_id, hold)) for receipt, hold in settled]


def settle_holds(
    connection: sa.Connection, settled: Sequence[Settled], *, at: int
) -> Sequence[Settled]:
    """Close the holds and bill the costs. Return what was settled, with the holds as they were
    granted; nothing where a hold had been refused after its call was cancelled.

    Raise `HoldNotFoundError` if a hold is not open, or of another amount.
    """
    settled = find_granted(connection, settled)
    closings = [
        ("settled" if receipt.cost_nano else "released", hold.request_id, hold.amount_nano)
        for receipt, hold in settled
    ]
    closed = store.close_holds(connection, closings)
    if closed == 0 and len(settled) == 1 and settled[0][0].cost_nano == 0:
        return []
    if closed < len(closings):
        names = ", ".join(hold.request_id for _, hold in settled)
        raise HoldNotFoundError(
            f"No open hold of the stated amount among: {names}. Nothing was recorded."
        )
    managed = [(receipt, hold) for receipt, hold in settled if hold.managed]
    append(
        connection,
        [
            entry
            for receipt, hold in managed
            for entry in make_settlement_entries(hold, receipt.cost_nano)
        ],
        at=at,
    )
    for receipt, hold in managed:
        if receipt.cost_nano > hold.amount_nano:
            wallet = name_account(hold.organization_id, "wallet")
            available = store.lock_balances(connection, [wallet]).get(wallet, 0)
            excess = make_excess_entries(hold, receipt.cost_nano, wallet_nano=available)
            append(connection, excess, at=at)
            log.warning("ledger.cost_above_hold", request_id=hold.request_id)
    return settled


class Counting(msgspec.Struct, frozen=True):
    """Hold what one settled call changes in one counter of a month."""

    budget: Budget
    month: str
    receipt: Receipt
    released_nano: int = 0
    held_managed: bool = False


def list_counting(
    calls: Iterable[tuple[Receipt, Hold | None]], budgets: CountedBudgets | None, *, month: str
) -> list[Counting]:
    """Return what calls change in the counters: those of their holds, and those of budgets that
    were set while they ran. `month` is that of calls without a hold."""
    found: list[Counting] = []
    organizations = () if budgets is None else budgets.organizations
    for receipt, hold in calls:
        if receipt.organization_id not in organizations and not (hold and hold.budgets):
            continue
        counted = (hold.month or month) if hold is not None else month
        held = hold.budgets if hold is not None else ()
        if hold is not None:
            found += [
                Counting(each, counted, receipt, hold.amount_nano, hold.managed) for each in held
            ]
        if budgets is not None:
            scopes = {(each.scope, each.scope_id) for each in held}
            found += [
                Counting(each, counted, receipt)
                for each in budgets.find_counting(receipt)
                if (each.scope, each.scope_id) not in scopes
            ]
    return found


def count(connection: sa.Connection, counting: Sequence[Counting]) -> list[UsageThresholdReached]:
    """Change the counters, each once. Return the thresholds that were reached now."""
    if not counting:
        return []
    counters: dict[str, BudgetMonth] = {}
    summed: set[str] = set()
    for month in sorted({each.month for each in counting}):
        wanted = {
            name_counter(each.budget.scope, each.budget.scope_id, month): (
                each.budget,
                each.receipt.organization_id,
            )
            for each in counting
            if each.month == month
        }
        loaded = load_counters(connection, wanted, month=month)
        counters |= loaded.counters
        summed |= loaded.summed
    events: list[UsageThresholdReached] = []
    for each in counting:
        budget, receipt = each.budget, each.receipt
        counter = counters[name_counter(budget.scope, budget.scope_id, each.month)]
        counter.add_held(-each.released_nano, managed=each.held_managed)
        # A counter that was summed in this transaction has its receipts already.
        if counter.id not in summed:
            counter.add_used(receipt.cost_nano, managed=receipt.managed)
        events += [
            UsageThresholdReached(
                organization_id=counter.organization_id,
                scope=budget.scope,
                scope_id=budget.scope_id,
                month=each.month,
                threshold=percent,
                limit_nano=budget.limit_nano,
                used_nano=counter.find_used(budget),
                managed_only=budget.managed_only,
                request_id=receipt.request_id,
            )
            for percent in counter.announce(budget)
        ]
    budget_store.update_counters(connection, list(counters.values()))
    return events
