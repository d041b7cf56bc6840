"""What billing does by the clock."""

from __future__ import annotations

from headgate.billing.service import Ledger
from headgate.kit.clock import Clock

EXPIRY_INTERVAL_SECONDS = 30.0


async def resolve_expired_holds(ledger: Ledger, clock: Clock) -> int:
    """Settle calls that never came to an end; every `EXPIRY_INTERVAL_SECONDS`. How many."""
    return await ledger.resolve_expired(clock.now())
