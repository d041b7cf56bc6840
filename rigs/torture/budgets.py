"""The judge of budgets: their counters against receipts, limits and open holds."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

from headgate.billing.model.budgets import STALE, name_month
from rigs.torture.oracle import Finding, Read

MICROSECONDS = 1_000_000
Scope = tuple[str, str, str]
"""The kind of a scope, its id, and a month such as `2026-11`."""


def judge_budgets(read: Read, *, may_exceed: bool = False) -> Iterable[Finding]:
    """Return what is wrong with the counters when no call runs.

    `may_exceed` accepts a use above the limit, where a provider reported more than was held.
    """
    spent, limits = sum_spent(read), _read_limits(read)
    counters = read(
        "SELECT scope, scope_id, month, used_nano, managed_used_nano, held_nano, "
        f"managed_held_nano FROM budget_months WHERE state <> '{STALE}'"
    )
    for scope, scope_id, month, used, managed_used, held, managed_held in counters:
        name = f"{scope} {scope_id} in {month}"
        wanted = spent.get((scope, scope_id, month), (0, 0))
        if (used, managed_used) != wanted:
            yield Finding("B1", f"{name}: {(used, managed_used)}, and its receipts {wanted}")
        if held or managed_held:
            yield Finding("B3", f"{name}: {(held, managed_held)} are held")
        limit, managed_only = limits.get((scope, scope_id), (None, False))
        counted = managed_used if managed_only else used
        if limit is not None and counted > limit and not may_exceed:
            yield Finding("B2", f"{name}: {counted} of {limit}")


def sum_spent(read: Read) -> dict[Scope, tuple[int, int]]:
    """Return the cost of the receipts of each scope and month: of all, and of the managed ones. A
    call counts in the month of its hold."""
    months = dict(read("SELECT request_id, month FROM holds"))
    sums: defaultdict[Scope, list[int]] = defaultdict(lambda: [0, 0])
    rows = read(
        "SELECT request_id, organization_id, project_id, key_id, managed, cost_nano, created_at "
        "FROM receipts WHERE cost_nano <> 0"
    )
    for request_id, organization_id, project_id, key_id, managed, cost, created_at in rows:
        month = months.get(request_id) or name_month(created_at / MICROSECONDS)
        for scope in (
            ("key", key_id, month),
            ("project", project_id, month),
            ("organization", organization_id, month),
        ):
            sums[scope][0] += cost
            sums[scope][1] += cost if managed else 0
    return {scope: (all_of_it, managed) for scope, (all_of_it, managed) in sums.items()}


def _read_limits(read: Read) -> dict[tuple[str, str], tuple[int, bool]]:
    limits = {
        (scope, scope_id): (limit, bool(managed_only))
        for scope, scope_id, limit, managed_only in read(
            "SELECT scope, scope_id, limit_nano, managed_only FROM budgets"
        )
    }
    keys = read("SELECT id, monthly_budget_nano FROM keys WHERE monthly_budget_nano IS NOT NULL")
    return limits | {("key", key_id): (limit, False) for key_id, limit in keys}
