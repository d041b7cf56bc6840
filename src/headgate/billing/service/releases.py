"""Release the holds of targets that failed, whose calls go on with another target."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from headgate.billing.events import UsageThresholdReached
from headgate.billing.model.ledger import (
    HoldNotFoundError,
    make_excess_entries,
    make_settlement_entries,
    make_unknown_receipt,
    name_account,
)
from headgate.billing.service.settlements import CountedBudgets, count, list_counting
from headgate.billing.service.transactions import append
from headgate.billing.store import ledger as store
from headgate.relay.ports import Hold, Receipt

Released = tuple[Hold, Receipt | None]


def release_holds(
    connection: sa.Connection,
    released: Sequence[Released],
    budgets: CountedBudgets | None,
    *,
    at: int,
) -> list[UsageThresholdReached]:
    """Take open holds away, and bill the receipts of attempts that may have been charged. Return
    the thresholds of budgets that were reached now.

    Raise `HoldNotFoundError` if a hold is not open, or of another amount.
    """
    holds = [hold for hold, _ in released]
    if store.delete_holds(connection, holds) < len(holds):
        names = ", ".join(hold.request_id for hold in holds)
        raise HoldNotFoundError(
            f"No open hold of the stated amount among: {names}. Nothing was recorded."
        )
    for hold, receipt in released:
        if hold.managed:
            _bill(connection, hold, receipt, at=at)
    counted = [(receipt or _make_free(hold, at), hold) for hold, receipt in released]
    return count(connection, list_counting(counted, budgets, month=""))


def _bill(connection: sa.Connection, hold: Hold, receipt: Receipt | None, *, at: int) -> None:
    """Move the money of a hold back, less the cost of its receipt."""
    cost = 0 if receipt is None else receipt.cost_nano
    bill_id = name_release(hold) if receipt is None else receipt.request_id
    append(connection, make_settlement_entries(hold, cost, bill_id), at=at)
    if cost > hold.amount_nano:
        wallet = name_account(hold.organization_id, "wallet")
        available = store.lock_balances(connection, [wallet]).get(wallet, 0)
        billed = msgspec.structs.replace(hold, request_id=bill_id)
        append(connection, make_excess_entries(billed, cost, wallet_nano=available), at=at)


def name_release(hold: Hold) -> str:
    """Return the id under which a hold is given back without a bill."""
    return f"{hold.request_id}.a{hold.target_index + 1}"


def _make_free(hold: Hold, at: int) -> Receipt:
    """Return a receipt that costs nothing, for the counters of budgets."""
    return msgspec.structs.replace(make_unknown_receipt(hold, created_at=at / 1e6), cost_nano=0)
