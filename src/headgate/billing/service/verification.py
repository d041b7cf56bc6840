"""Check the whole ledger against holds, receipts and counters, on one snapshot."""

from __future__ import annotations

from collections import defaultdict

import msgspec
import sqlalchemy as sa

from headgate.billing.model.budgets import EXACT, BudgetMonth, name_counter, start_of_month
from headgate.billing.store import budgets as budget_store
from headgate.billing.store import ledger as store
from headgate.billing.store import verification

FAULTS_MAX = 100


def verify(connection: sa.Connection, *, receipts_since: float = 0.0) -> list[str]:
    """Return every fault as one sentence, at most `FAULTS_MAX`; empty if everything adds up.

    Run it on a snapshot (`Database.reading`), also beside running servers. Receipts older than
    `receipts_since` (unix seconds) may be deleted, so nothing is compared with them.
    """
    faults = store.find_inconsistencies(connection)
    faults += verification.find_bill_faults(connection, since=receipts_since, rows_max=FAULTS_MAX)
    faults += _find_counter_faults(connection, receipts_since)
    return faults[:FAULTS_MAX]


def _find_counter_faults(connection: sa.Connection, receipts_since: float) -> list[str]:
    held: defaultdict[str, int] = defaultdict(int)
    for hold in store.list_open_holds(connection, expired_at=None, rows_max=10**9):
        for budget in hold.budgets:
            held[name_counter(budget.scope, budget.scope_id, hold.month)] += hold.amount_nano
    faults: list[str] = []
    for counter in budget_store.select_all_counters(connection):
        expected = held.pop(counter.id, 0)
        if counter.held_nano != expected:
            faults.append(
                f"Counter {counter.id} holds {counter.held_nano}, its open holds sum to {expected}."
            )
        if counter.state == EXACT and start_of_month(counter.month) >= receipts_since:
            faults += _compare_used(connection, counter)
    faults += [f"Counter {name} is missing, its open holds sum to {held[name]}." for name in held]
    return faults


def _compare_used(connection: sa.Connection, counter: BudgetMonth) -> list[str]:
    summed = msgspec.structs.replace(counter)
    budget_store.sum_receipts(connection, summed)
    if summed.used_nano == counter.used_nano:
        return []
    used = counter.used_nano
    return [f"Counter {counter.id} has used {used}, its receipts sum to {summed.used_nano}."]
