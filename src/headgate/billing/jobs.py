"""What billing does by the clock."""

from __future__ import annotations

from collections.abc import Sequence

from headgate.billing.service import Ledger
from headgate.relay.ports import Receipt

EXPIRY_INTERVAL_SECONDS = 30.0


RECOVERY_INTERVAL_SECONDS = 0.5


async def resolve_expired_holds(ledger: Ledger) -> int:
    """Settle calls that never came to an end; every `EXPIRY_INTERVAL_SECONDS`. How many."""
    return await ledger.resolve_expired()


async def recover(ledger: Ledger) -> Sequence[Receipt]:
    """Record what had to wait for the database; every `RECOVERY_INTERVAL_SECONDS`."""
    return await ledger.recover()
