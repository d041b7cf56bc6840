"""Background jobs of billing."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.billing.service.ledger import Ledger
from headgate.relay.ports import Receipt

EXPIRY_INTERVAL_SECONDS = 30.0
RECOVERY_INTERVAL_SECONDS = 0.5
EXTENSION_INTERVAL_SECONDS = 20.0
"""A third of a lease, so that two runs may fail."""
RECOUNT_INTERVAL_SECONDS = 3.0
CLOCK_INTERVAL_SECONDS = 60.0
CREDITS_INTERVAL_SECONDS = 3600.0
RAISE_INTERVAL_SECONDS = 60.0


async def resolve_expired_holds(ledger: Ledger) -> int:
    """Settle the calls whose hold has expired, and return how many. Run every
    `EXPIRY_INTERVAL_SECONDS`."""
    return await ledger.resolve_expired()


async def recover(ledger: Ledger) -> Sequence[Receipt]:
    """Record the receipts that waited for the database, and return them. Run every
    `RECOVERY_INTERVAL_SECONDS`."""
    return await ledger.recover()
