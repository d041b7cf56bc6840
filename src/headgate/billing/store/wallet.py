"""The SQL of what people read of a wallet."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.billing.model.transactions import WalletEntry
from headgate.billing.store.ledger import ENTRIES

MICROSECONDS = 1_000_000


def select_entries(
    connection: sa.Connection, account_id: str, *, before: int | None, limit: int
) -> list[WalletEntry]:
    """Return the newest entries of an account, newest first, of those with a smaller number than
    `before`."""
    query = (
        sa.select(
            ENTRIES.c.id,
            ENTRIES.c.transaction_id,
            ENTRIES.c.amount_nano,
            ENTRIES.c.request_id,
            ENTRIES.c.created_at,
        )
        .where(ENTRIES.c.account_id == account_id)
        .order_by(ENTRIES.c.id.desc())
        .limit(limit)
    )
    if before is not None:
        query = query.where(ENTRIES.c.id < before)
    return [
        WalletEntry(number, transaction_id, amount_nano, request_id, at / MICROSECONDS)
        for number, transaction_id, amount_nano, request_id, at in connection.execute(query)
    ]
