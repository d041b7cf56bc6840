"""All SQL of budgets: their limits, and what was used of them in each month."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import sqlalchemy as sa

from headgate.billing.model.budgets import (
    EXACT,
    PROVISIONAL,
    STALE,
    BudgetMonth,
    end_of_month,
    parse_thresholds,
    previous_month,
    start_of_month,
)
from headgate.billing.store.ledger import HOLDS
from headgate.kit.db.schema import METADATA
from headgate.kit.db.statement import HotStatement, LockedLookup, build_insert
from headgate.metering import store as metering
from headgate.relay.ports import Budget

TOPIC = "budgets"
"""The revision that every change of a budget bumps, by which all processes notice it."""
MICROSECONDS = 1_000_000
UNKNOWN = "unknown"
"""The outcome of a call that its process left behind."""
BOUNDARY_SECONDS = 2 * 86_400
"""How far from the end of a month the receipts of its calls may be: a call may take a day."""

BUDGETS = sa.Table(
    "budgets",
    METADATA,
    sa.Column("scope", sa.Text, primary_key=True),
    sa.Column("scope_id", sa.Text, primary_key=True),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("limit_nano", sa.BigInteger, nullable=False),
    sa.Column("managed_only", sa.SmallInteger, nullable=False),
    sa.Column("thresholds", sa.Text, nullable=False),
    sa.Column("version", sa.Integer, nullable=False),
    sa.Column("created_at", sa.Double, nullable=False),
    sa.Column("updated_at", sa.Double, nullable=False),
    sa.CheckConstraint("limit_nano >= 0", name="limit"),
    sa.Index("ix_budgets_organization_id", "organization_id"),
)

BUDGET_MONTHS = sa.Table(
    "budget_months",
    METADATA,
    sa.Column("id", sa.Text, primary_key=True),
    sa.Column("scope", sa.Text, nullable=False),
    sa.Column("scope_id", sa.Text, nullable=False),
    sa.Column("organization_id", sa.Text, nullable=False),
    sa.Column("month", sa.Text, nullable=False),
    sa.Column("used_nano", sa.BigInteger, nullable=False),
    sa.Column("held_nano", sa.BigInteger, nullable=False),
    sa.Column("managed_used_nano", sa.BigInteger, nullable=False),
    sa.Column("managed_held_nano", sa.BigInteger, nullable=False),
    sa.Column("announced", sa.Text, nullable=False),
    sa.Column("state", sa.Text, nullable=False),
    sa.CheckConstraint("held_nano >= 0", name="held"),
    sa.Index("ix_budget_months_organization_id", "organization_id", "month"),
)

_COLUMNS = BudgetMonth.__struct_fields__
_FIND = LockedLookup(BUDGET_MONTHS, *_COLUMNS)
_INSERT = build_insert(BUDGET_MONTHS, *_COLUMNS, ignore_known=True)
_CHANGED = _COLUMNS[5:]
_UPDATE = HotStatement(
    sa.update(BUDGET_MONTHS)
    .values({name: sa.bindparam(f"new_{name}") for name in _CHANGED})
    .where(BUDGET_MONTHS.c.id == sa.bindparam("counter")),
    *(f"new_{name}" for name in _CHANGED),
    "counter",
)


def select_budgets(connection: sa.Connection) -> list[tuple[str, Budget]]:
    """Return the budgets of projects and organizations, each with its organization's id."""
    table = BUDGETS.c
    query = sa.select(
        table.organization_id,
        table.scope,
        table.scope_id,
        table.limit_nano,
        table.managed_only,
        table.thresholds,
    )
    return [
        (
            row.organization_id,
            Budget(
                row.scope,
                row.scope_id,
                row.limit_nano,
                bool(row.managed_only),
                parse_thresholds(row.thresholds),
            ),
        )
        for row in connection.execute(query)
    ]


def lock_counters(connection: sa.Connection, ids: Iterable[str]) -> dict[str, BudgetMonth]:
    """Return the counters that exist, locked until the transaction ends."""
    return {row[0]: BudgetMonth(*row) for row in _FIND.run(connection, sorted(ids))}


def insert_counters(connection: sa.Connection, counters: Sequence[BudgetMonth]) -> None:
    """Insert counters, ignoring those that exist."""
    _INSERT.run_all(connection, [_to_row(counter) for counter in counters])


def update_counters(connection: sa.Connection, counters: Sequence[BudgetMonth]) -> None:
    """Write counters that this transaction has locked."""
    rows = [(*_to_row(counter)[5:], counter.id) for counter in counters]
    assert _UPDATE.run_all(connection, rows) == len(rows), "a counter is missing"


def _to_row(counter: BudgetMonth) -> tuple[str | int, ...]:
    return tuple(getattr(counter, name) for name in _COLUMNS)


def select_counters(
    connection: sa.Connection, organization_id: str, month: str
) -> list[BudgetMonth]:
    """Return the counters of an organization in a month, for reports."""
    query = sa.select(*[BUDGET_MONTHS.c[name] for name in _COLUMNS]).where(
        BUDGET_MONTHS.c.organization_id == organization_id, BUDGET_MONTHS.c.month == month
    )
    return [BudgetMonth(*row) for row in connection.execute(query)]


def select_all_counters(connection: sa.Connection) -> list[BudgetMonth]:
    """Return every counter of every month."""
    query = sa.select(*[BUDGET_MONTHS.c[name] for name in _COLUMNS]).order_by(BUDGET_MONTHS.c.id)
    return [BudgetMonth(*row) for row in connection.execute(query)]


def select_provisional(connection: sa.Connection) -> list[str]:
    """Return the ids of counters that wait for their exact sum."""
    query = sa.select(BUDGET_MONTHS.c.id).where(BUDGET_MONTHS.c.state == PROVISIONAL)
    return list(connection.execute(query).scalars())


def find_organizations(connection: sa.Connection, name: str) -> list[str]:
    """Return the organization of a counter, if there is one."""
    query = sa.select(BUDGET_MONTHS.c.organization_id).where(BUDGET_MONTHS.c.id == name)
    return list(connection.execute(query).scalars())


def mark_stale(connection: sa.Connection, ids: Sequence[str]) -> None:
    """Let the next use of these counters sum the receipts again."""
    connection.execute(
        sa.update(BUDGET_MONTHS).where(BUDGET_MONTHS.c.id.in_(sorted(ids))).values(state=STALE)
    )


def begin_counter(connection: sa.Connection, counter: BudgetMonth) -> bool:
    """Set what a new counter has used: nothing if its scope was counted in the month before, else
    what the receipts of this month say. Return whether receipts were summed."""
    before = f"{counter.scope}:{counter.scope_id}:{previous_month(counter.month)}"
    query = sa.select(BUDGET_MONTHS.c.state).where(BUDGET_MONTHS.c.id == before)
    if connection.execute(query).scalar_one_or_none() == EXACT:
        return False
    sum_again(connection, counter)
    return True


def sum_again(connection: sa.Connection, counter: BudgetMonth) -> None:
    """Set what a stale counter has used, until the exact sum is made."""
    sum_receipts(connection, counter)
    counter.state = PROVISIONAL


def sum_receipts(connection: sa.Connection, counter: BudgetMonth) -> None:
    """Set what a counter has used to what the receipts of its month say."""
    since, until = start_of_month(counter.month), end_of_month(counter.month)
    used, managed = metering.sum_costs(
        connection,
        counter.organization_id,
        scope=counter.scope,
        scope_id=counter.scope_id,
        since=since,
        until=until,
    )
    # A call counts in the month of its hold, and its receipt may be of another one.
    created_at, month = metering.RECEIPTS.c.created_at, HOLDS.c.month
    is_later = created_at >= until * MICROSECONDS
    is_inside = sa.and_(created_at >= since * MICROSECONDS, created_at < until * MICROSECONDS)
    is_earlier_call = sa.and_(month < counter.month, month != "")
    for condition, begins, sign in (
        (sa.and_(month == counter.month, is_later), until, 1),
        (sa.and_(is_earlier_call, is_inside), since, -1),
    ):
        late, late_managed = _sum_late(connection, counter, condition, begins)
        used, managed = used + sign * late, managed + sign * late_managed
    counter.used_nano, counter.managed_used_nano = used, managed


def _sum_late(
    connection: sa.Connection,
    counter: BudgetMonth,
    condition: sa.ColumnElement[bool],
    begins: int,
) -> tuple[int, int]:
    """Return the cost of the calls that meet a condition, and whose receipts are of another month
    than their holds: of all, and of the managed ones. The later month `begins` then.

    A call that ended in order did so soon after that. One that was left behind by its process is
    settled at the next start, which may be months later.
    """
    receipts = metering.RECEIPTS.c
    is_near = sa.and_(
        receipts.created_at >= begins * MICROSECONDS,
        receipts.created_at < (begins + BOUNDARY_SECONDS) * MICROSECONDS,
    )
    query = (
        sa.select(*metering.sum_columns())
        .select_from(metering.RECEIPTS.join(HOLDS, HOLDS.c.request_id == receipts.request_id))
        .where(
            receipts.organization_id == counter.organization_id,
            metering.match_scope(counter.scope, counter.scope_id),
            sa.or_(is_near, receipts.outcome == UNKNOWN),
            condition,
        )
    )
    used, managed = connection.execute(query).one()
    return int(used), int(managed)
