"""Move money into and out of a wallet beside the calls. All amounts are nano-dollars."""

from __future__ import annotations

from collections.abc import Sequence

import msgspec
import sqlalchemy as sa

from headgate.billing.model.ledger import (
    ReferenceConflictError,
    name_account,
)
from headgate.billing.model.transactions import WalletEntry
from headgate.billing.service.transactions import MICROSECONDS, post
from headgate.billing.store import ledger as ledger_store
from headgate.billing.store import wallet as store
from headgate.kit.db.locks import lock_names


class WalletBalance(msgspec.Struct, frozen=True):
    """Hold what a wallet has: what can be spent now, what is held for open calls, what is owed."""

    available_nano: int
    held_nano: int
    debt_nano: int


def read_wallet(connection: sa.Connection, organization_id: str) -> WalletBalance:
    available, held, overspend = (
        ledger_store.read_balance(connection, name_account(organization_id, account))
        for account in ("wallet", "held", "overspend")
    )
    return WalletBalance(available, held, -overspend)


def read_available_of(connection: sa.Connection, organization_ids: Sequence[str]) -> dict[str, int]:
    """Return what each of some organizations can spend now; nothing for those without a wallet."""
    names = {name_account(each, "wallet"): each for each in organization_ids}
    balances = ledger_store.read_balances(connection, list(names))
    return {names[account]: balance for account, balance in balances.items()}


def credit(
    connection: sa.Connection,
    transaction_id: str,
    organization_id: str,
    *,
    source: str,
    amount_nano: int,
    now: float,
) -> bool:
    """Move money from an account into the wallet, once for each transaction id, and pay debt from
    it. Return whether it is new.

    Raise `ReferenceConflictError` if the id was used for another amount.
    """
    assert amount_nano > 0, "a credit is positive"
    amounts = [(source, -amount_nano), ("wallet", amount_nano)]
    return post(connection, organization_id, transaction_id, amounts, at=now)


def debit(
    connection: sa.Connection,
    transaction_id: str,
    organization_id: str,
    *,
    target: str,
    amount_nano: int,
    now: float,
) -> bool:
    """Move money out of the wallet into an account, once for each transaction id. Return whether
    it is new.

    What the wallet does not have becomes debt; what is held for open calls stays held. Raise
    `ReferenceConflictError` if the id was used for another amount.
    """
    assert amount_nano > 0, "a debit is positive"
    # From here on, nothing else changes what the wallet has.
    lock_names(connection, [organization_id])
    known = ledger_store.read_transaction(connection, transaction_id)
    if known.get(name_account(organization_id, target)) == amount_nano:
        return False
    if known:
        raise ReferenceConflictError(
            f"The reference {transaction_id!r} was used for another amount; choose a new one.",
            param="reference",
        )
    wallet = name_account(organization_id, "wallet")
    available_nano = ledger_store.read_balance(connection, wallet, to_change=True)
    paid_nano = min(available_nano, amount_nano)
    amounts = [
        ("wallet", -paid_nano),
        ("overspend", paid_nano - amount_nano),
        (target, amount_nano),
    ]
    return post(connection, organization_id, transaction_id, amounts, at=now)


def list_owners(connection: sa.Connection) -> list[str]:
    """Return the organizations that have a wallet."""
    return ledger_store.list_owners(connection)


def has_open_calls(connection: sa.Connection, organization_id: str, *, before: float) -> bool:
    """Return whether calls that began before a time are not settled yet."""
    return ledger_store.has_open_holds(
        connection, organization_id, before=int(before * MICROSECONDS)
    )


def sum_billed(
    connection: sa.Connection, organization_id: str, *, since: float, until: float
) -> tuple[int, int]:
    """Return what the calls of an organization were billed between two times, and what credits paid
    of it, by the ledger alone."""
    revenue, credit = ledger_store.sum_entries(
        connection,
        organization_id,
        since=int(since * MICROSECONDS),
        until=int(until * MICROSECONDS),
    )
    return revenue, -credit


def list_wallet_entries(
    connection: sa.Connection, organization_id: str, *, before: int | None, limit: int
) -> list[WalletEntry]:
    """Return changes of the wallet, newest first, of those with a smaller number than `before`."""
    wallet = name_account(organization_id, "wallet")
    return store.select_entries(connection, wallet, before=before, limit=limit)
