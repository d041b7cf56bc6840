"""Correct what calls were billed, by new transactions and receipts. Amounts are nano-dollars."""

from __future__ import annotations

import msgspec
import sqlalchemy as sa

from headgate.billing.model.budgets import SCOPE_FIELDS, name_counter, name_month
from headgate.billing.model.ledger import name_account, name_credits
from headgate.billing.service.transactions import post
from headgate.billing.store import budgets as budget_store
from headgate.billing.store import ledger as store
from headgate.kit.db.locks import lock_names
from headgate.kit.errors import HeadgateError, Kind
from headgate.metering import store as metering
from headgate.metering.model import CORRECTED
from headgate.relay.ports import Receipt

UNKNOWN = "unknown"
CORRECTIONS_MAX = 100


class CallNotFoundError(HeadgateError):
    """There is no receipt of this request, or it was corrected too often.

    List the calls whose outcome is unknown with `headgate ledger unknown`.
    """

    kind = Kind.MISSING
    code = "receipt_not_found"


class BilledCall(msgspec.Struct, frozen=True):
    """Hold the receipt of a call and what it costs after its corrections."""

    receipt: Receipt
    cost_nano: int
    corrections: int = 0


def find_billed(connection: sa.Connection, request_id: str) -> BilledCall | None:
    """Return a call with its corrections, whose ids are its own with `.c1`, `.c2` and so on."""
    receipt = metering.find(connection, request_id)
    if receipt is None or receipt.outcome == CORRECTED:
        return None
    cost = receipt.cost_nano
    for number in range(1, CORRECTIONS_MAX + 1):
        correction = metering.find(connection, f"{request_id}.c{number}")
        if correction is None:
            return BilledCall(receipt, cost, number - 1)
        cost += correction.cost_nano
    return None


def list_unknown(connection: sa.Connection, *, rows_max: int) -> list[BilledCall]:
    """Return the calls whose outcome is unknown and that nobody has corrected, newest first."""
    found = metering.list_outcome(connection, UNKNOWN, rows_max=rows_max)
    calls = [find_billed(connection, receipt.request_id) for receipt in found]
    return [call for call in calls if call is not None and not call.corrections]


def is_waivable(call: BilledCall) -> bool:
    """Return whether a call is charged from the wallet, and did not end because its client left or
    its key was revoked."""
    receipt = call.receipt
    if not receipt.managed or not call.cost_nano:
        return False
    return receipt.outcome != "cancelled" or receipt.error_code == "gateway_stopping"


def correct(
    connection: sa.Connection, request_id: str, cost_nano: int, *, at: float
) -> Receipt | None:
    """Make a call cost another amount: post the difference, store it as a receipt of its own, and
    count it in the budgets of this month. Return that receipt; None where nothing changes.

    Credits that the call does not cost any more return to their month, the rest to the wallet. What
    it costs more is taken from the wallet as far as it covers it; the rest is a debt. Raise
    `CallNotFoundError`.
    """
    assert cost_nano >= 0, "a call costs nothing at least"
    known = metering.find(connection, request_id)
    if known is not None:
        lock_names(connection, [known.organization_id])
    call = find_billed(connection, request_id)
    if call is None:
        raise CallNotFoundError(f"There is no call {request_id!r} to correct.", param="request")
    difference = cost_nano - call.cost_nano
    if not difference:
        return None
    receipt = call.receipt
    correction_id = f"{request_id}.c{call.corrections + 1}"
    credits_before = min(receipt.credit_nano, call.cost_nano)
    credit_nano = min(0, min(receipt.credit_nano, cost_nano) - credits_before)
    correction = msgspec.structs.replace(
        receipt,
        request_id=correction_id,
        created_at=at,
        outcome=CORRECTED,
        error_code=None,
        usage=None,
        estimated=False,
        cost_nano=difference,
        credit_nano=credit_nano,
        attempts=0,
    )
    metering.insert(connection, [correction])
    if receipt.managed:
        _post_difference(connection, correction, at=at)
    _count(connection, correction, month=name_month(at))
    return correction


def _post_difference(connection: sa.Connection, correction: Receipt, *, at: float) -> None:
    organization_id, cost_nano = correction.organization_id, correction.cost_nano
    credit_nano = correction.credit_nano
    wallet = name_account(organization_id, "wallet")
    wallet_change = credit_nano - cost_nano
    debt = 0
    if wallet_change < 0:
        available = store.lock_balances(connection, [wallet]).get(wallet, 0)
        debt = min(0, available + wallet_change)
        wallet_change -= debt
    amounts = [("revenue", cost_nano), ("overspend", debt), ("wallet", wallet_change)]
    if credit_nano:
        month = store.find_month(connection, correction.request_id.rpartition(".c")[0])
        amounts.append((name_credits(month or name_month(at)), -credit_nano))
    post(
        connection,
        organization_id,
        f"correct:{correction.request_id}",
        amounts,
        at=at,
        request_id=correction.request_id,
    )


def _count(connection: sa.Connection, correction: Receipt, *, month: str) -> None:
    names = [
        name_counter(scope, getattr(correction, field), month) for scope, field in SCOPE_FIELDS
    ]
    counters = budget_store.lock_counters(connection, names)
    for counter in counters.values():
        counter.add_used(correction.cost_nano, managed=correction.managed)
    budget_store.update_counters(connection, list(counters.values()))
