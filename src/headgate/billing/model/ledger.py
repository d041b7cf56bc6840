"""The rules of the ledger, without I/O. All amounts are nano-dollars."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal, get_args

import msgspec

from headgate.kit.errors import HeadgateError, Kind
from headgate.relay.ports import Hold, Receipt

Account = Literal["wallet", "held", "revenue", "funding", "overspend"]
"""The accounts that every organization with a wallet has.

`wallet` and `held` never go below 0; `funding` is the sum of the grants (negative), `revenue` the
sum of the bills, `overspend` the debt (negative): what was billed and not covered. The next grant
pays it first. The further ones are opened when they are first used.
"""

ACCOUNTS: tuple[Account, ...] = get_args(Account)

PAYMENT_CLEARING = "payment_clearing"
"""What payments brought in (negative), less what was refunded."""
ADJUSTMENTS = "adjustments"
"""The sum of the operator's adjustments, with the opposite sign."""
CREDITS_GRANTED = "credits_granted"
"""What plans gave (negative), less what expired."""
CREDITS = "credits"
"""The kind of the accounts of monthly credits; there is one for each month: `credits:2026-11`."""


class HoldNotFoundError(HeadgateError):
    """A settlement names a hold that is not open and has no receipt. Nothing was recorded.

    Report it: this is a fault of the gateway.
    """

    code = "hold_lost"


class ReferenceConflictError(HeadgateError):
    """The reference of this grant was used before for another amount.

    Choose a new reference.
    """

    kind = Kind.CONFLICT
    code = "reference_taken"


def name_account(organization_id: str, account: str) -> str:
    return f"{organization_id}:{account}"


def name_credits(month: str) -> str:
    """Return the account of a month's credits."""
    return f"{CREDITS}:{month}"


def find_kind(account: str) -> str:
    """Return the kind of an account: `credits` for `credits:2026-11`."""
    return account.partition(":")[0]


class LedgerEntry(msgspec.Struct, frozen=True):
    """Represent one side of a transaction: the amount that an account gains, negative if it
    loses."""

    transaction_id: str
    account_id: str
    amount_nano: int
    request_id: str


def make_transaction(
    transaction_id: str,
    organization_id: str,
    amounts: Sequence[tuple[str, int]],
    *,
    request_id: str = "",
) -> list[LedgerEntry]:
    """Return the entries of a transaction. `amounts` must sum to zero; zero amounts are left
    out."""
    assert sum([amount for _, amount in amounts]) == 0, "a transaction must sum to zero"
    return [
        LedgerEntry(transaction_id, f"{organization_id}:{account}", amount, request_id)
        for account, amount in amounts
        if amount
    ]


def make_hold_entries(hold: Hold) -> list[LedgerEntry]:
    """Move the amount to `held`: from the month's credits what they pay, the rest from the
    wallet."""
    request_id, owner = hold.request_id, hold.organization_id
    name, amount, credit = f"hold:{request_id}", hold.amount_nano, hold.credit_nano
    if hold.target_index:
        name += f".{hold.target_index}"
    entries: list[LedgerEntry] = []
    if amount != credit:
        entries.append(LedgerEntry(name, f"{owner}:wallet", credit - amount, request_id))
    if credit:
        entries.append(LedgerEntry(name, _name_credits(hold), -credit, request_id))
    if amount:
        entries.append(LedgerEntry(name, f"{owner}:held", amount, request_id))
    return entries


def make_settlement_entries(hold: Hold, cost_nano: int, bill_id: str = "") -> list[LedgerEntry]:
    """Move the cost, at most the hold, from `held` to `revenue`, and the rest back to where it came
    from. Credits pay first.

    `bill_id` is that of the receipt, where it is another one than that of the call.
    """
    request_id, owner = bill_id or hold.request_id, hold.organization_id
    name, amount, credit = f"settle:{request_id}", hold.amount_nano, hold.credit_nano
    billed = min(cost_nano, amount)
    unused_credits = credit - billed if credit > billed else 0
    unused = amount - billed - unused_credits
    entries: list[LedgerEntry] = []
    if amount:
        entries.append(LedgerEntry(name, f"{owner}:held", -amount, request_id))
    if billed:
        entries.append(LedgerEntry(name, f"{owner}:revenue", billed, request_id))
    if unused_credits:
        entries.append(LedgerEntry(name, _name_credits(hold), unused_credits, request_id))
    if unused:
        entries.append(LedgerEntry(name, f"{owner}:wallet", unused, request_id))
    return entries


def _name_credits(hold: Hold) -> str:
    return name_account(hold.organization_id, name_credits(hold.month))


def make_excess_entries(hold: Hold, cost_nano: int, *, wallet_nano: int) -> list[LedgerEntry]:
    """Charge the part of a cost that exceeds its hold: to the wallet as far as it covers it, the
    rest to `overspend`."""
    excess = cost_nano - hold.amount_nano
    paid = min(excess, wallet_nano)
    return make_transaction(
        f"excess:{hold.request_id}",
        hold.organization_id,
        [
            ("wallet", -paid),
            ("overspend", paid - excess),
            ("revenue", excess),
        ],
        request_id=hold.request_id,
    )


def make_unknown_receipt(hold: Hold, *, created_at: float) -> Receipt:
    """Return the receipt of a call that never ended, billed at its hold.

    The provider may have charged anything up to the hold, and no process is left that knows. The
    hold is the only certain bound, so it is billed, and marked `unknown` and `estimated` so that an
    operator can correct it from the provider's own figures.
    """
    return Receipt(
        request_id=hold.request_id,
        created_at=created_at,
        organization_id=hold.organization_id,
        project_id=hold.project_id,
        key_id=hold.key_id,
        credential_id=hold.credential_id,
        managed=hold.managed,
        endpoint=hold.endpoint,
        method=hold.method,
        provider=hold.provider,
        model_requested=hold.model,
        model_served=None,
        answer_id=None,
        upstream_request_id=None,
        correlation_id=None,
        status=0,
        outcome="unknown",
        error_code="hold_expired",
        streamed=False,
        usage=None,
        estimated=True,
        service_tier=None,
        pricing="priced",
        unpriced_reason=None,
        price_id=hold.price_id,
        cost_nano=hold.amount_nano,
        attempts=0,
        first_byte_microseconds=-1,
        upstream_microseconds=-1,
        total_microseconds=-1,
        overhead_microseconds=-1,
        credit_nano=min(hold.credit_nano, hold.amount_nano),
    )
