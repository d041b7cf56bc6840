"""The SQL that compares bills with receipts and holds."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.billing.store.ledger import ENTRIES, HOLDS, LEDGER_ACCOUNTS
from headgate.metering.store import RECEIPTS

MICROSECONDS = 1_000_000


def find_bill_faults(connection: sa.Connection, *, since: float, rows_max: int) -> list[str]:
    """Return what does not agree between revenue, receipts and holds, one sentence each."""
    at = int(since * MICROSECONDS)
    return [
        template.format(*row)
        for template, query in _build_queries(at)
        for row in connection.execute(query.limit(rows_max))
    ]


def _build_queries(since: int) -> list[tuple[str, Any]]:
    receipts, holds, accounts = RECEIPTS.c, HOLDS.c, LEDGER_ACCOUNTS.c
    paid = (
        sa.select(ENTRIES.c.request_id, sa.func.sum(ENTRIES.c.amount_nano).label("nano"))
        .join(LEDGER_ACCOUNTS, accounts.id == ENTRIES.c.account_id)
        .where(accounts.kind == "revenue", ENTRIES.c.created_at >= since)
        .group_by(ENTRIES.c.request_id)
        .subquery()
    )
    amount = sa.func.coalesce(paid.c.nano, 0)
    bills = RECEIPTS.outerjoin(paid, paid.c.request_id == receipts.request_id)
    paid_bills = paid.outerjoin(RECEIPTS, receipts.request_id == paid.c.request_id)
    held = HOLDS.outerjoin(RECEIPTS, receipts.request_id == holds.request_id)
    return [
        (
            "Call {0} costs {1} by its receipt, its entries sum to {2}.",
            sa.select(receipts.request_id, receipts.cost_nano, amount)
            .select_from(bills)
            .where(receipts.managed == 1, receipts.created_at >= since)
            .where(receipts.cost_nano != amount),
        ),
        (
            "Call {0} was billed {1} and has no receipt.",
            sa.select(paid.c.request_id, paid.c.nano)
            .select_from(paid_bills)
            .where(receipts.request_id.is_(None), paid.c.nano != 0),
        ),
        (
            "Hold {0} is {1} and its call has no receipt.",
            sa.select(holds.request_id, holds.state)
            .select_from(held)
            .where(holds.state != "held", holds.created_at >= since)
            .where(receipts.request_id.is_(None)),
        ),
        (
            "Hold {0} is open and its call has a receipt.",
            sa.select(holds.request_id)
            .select_from(held)
            .where(holds.state == "held", receipts.request_id.is_not(None)),
        ),
        (
            "Account {0} is {1}, below 0.",
            sa.select(accounts.id, accounts.balance_nano)
            .where(accounts.kind.in_(("wallet", "held", "credits")))
            .where(accounts.balance_nano < 0),
        ),
    ]
