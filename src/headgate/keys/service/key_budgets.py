"""The monthly budgets of keys, for the index of all budgets."""

from __future__ import annotations

from collections.abc import Iterator

import sqlalchemy as sa

from headgate.keys import store
from headgate.relay.ports import Budget


def list_changed_budgets(
    connection: sa.Connection, *, after_revision: int
) -> Iterator[tuple[int, str, str, Budget | None]]:
    """Yield the keys changed after a revision: their revision, id and organization, and the budget
    of each, None for a key without one."""
    yield from store.select_changed_budgets(connection, after_revision=after_revision)
