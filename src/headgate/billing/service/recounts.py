"""Make the counters of budgets exact that began while not every process knew their budget."""

from __future__ import annotations

from collections.abc import Collection

import sqlalchemy as sa

from headgate.billing.model.budgets import EXACT, PROVISIONAL, name_counter
from headgate.billing.store import budgets as store
from headgate.kit.db.locks import lock_names


class Recounts:
    """Sum provisional counters again, one call of `run` after they were first seen.

    Run it every few seconds: by then every process knows the budgets, and counts their calls.
    """

    def __init__(self) -> None:
        self._seen: frozenset[str] = frozenset()

    def run(
        self, connection: sa.Connection, changed: Collection[tuple[str, str]], *, month: str
    ) -> int:
        """Sum what waited, and mark the counters of budgets that were set or removed since, which
        may have missed calls. Return how many were summed."""
        if changed:
            names = [name_counter(scope, scope_id, month) for scope, scope_id in changed]
            store.mark_stale(connection, names)
        waiting = store.select_provisional(connection)
        ready = [name for name in waiting if name in self._seen]
        self._seen = frozenset(waiting) - frozenset(ready)
        return sum([recount(connection, name) for name in ready])


def recount(connection: sa.Connection, name: str) -> bool:
    """Set a provisional counter to what the receipts say, while no call changes it."""
    for organization_id in store.find_organizations(connection, name):
        lock_names(connection, [organization_id])
    counter = store.lock_counters(connection, [name]).get(name)
    if counter is None or counter.state != PROVISIONAL:
        return False
    store.sum_receipts(connection, counter)
    counter.state = EXACT
    store.update_counters(connection, [counter])
    return True
