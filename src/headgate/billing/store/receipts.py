"""The SQL of what the ledger has of a call: its hold and its entries."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from headgate.billing.model.receipts import CallHold, ReceiptEntry
from headgate.billing.store.ledger import ENTRIES, HOLDS

MICROSECONDS = 1_000_000


def select_entries(connection: sa.Connection, transaction_ids: Sequence[str]) -> list[ReceiptEntry]:
    """Return the entries of transactions, in the order in which they were posted."""
    query = (
        sa.select(
            ENTRIES.c.id,
            ENTRIES.c.transaction_id,
            ENTRIES.c.account_id,
            ENTRIES.c.amount_nano,
            ENTRIES.c.created_at,
        )
        .where(ENTRIES.c.transaction_id.in_(transaction_ids))
        .order_by(ENTRIES.c.id)
    )
    return [
        ReceiptEntry(number, transaction_id, account_id, amount_nano, at / MICROSECONDS)
        for number, transaction_id, account_id, amount_nano, at in connection.execute(query)
    ]


def find_hold(connection: sa.Connection, request_id: str) -> CallHold | None:
    columns = (HOLDS.c.amount_nano, HOLDS.c.state, HOLDS.c.managed, HOLDS.c.month)
    query = sa.select(*columns, HOLDS.c.created_at).where(HOLDS.c.request_id == request_id)
    row = connection.execute(query).one_or_none()
    if row is None:
        return None
    return CallHold(
        amount_nano=row.amount_nano,
        state=row.state,
        managed=bool(row.managed),
        month=row.month,
        created_at=row.created_at / MICROSECONDS,
    )


def select_held(connection: sa.Connection, request_ids: Sequence[str]) -> dict[str, int]:
    """Return the amounts of the holds of these requests, as they were granted."""
    query = sa.select(HOLDS.c.request_id, HOLDS.c.amount_nano).where(
        HOLDS.c.request_id.in_(request_ids)
    )
    return {row.request_id: row.amount_nano for row in connection.execute(query)}
