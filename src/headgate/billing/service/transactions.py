"""Append transactions to the ledger, each once. All amounts are nano-dollars."""

from __future__ import annotations

from collections.abc import Sequence

import sqlalchemy as sa

from headgate.billing.model.ledger import (
    ACCOUNTS,
    LedgerEntry,
    ReferenceConflictError,
    make_transaction,
    name_account,
)
from headgate.billing.model.refusals import InsufficientFundsError
from headgate.billing.store import ledger as store
from headgate.kit.db.locks import lock_names

MICROSECONDS = 1_000_000
Amounts = Sequence[tuple[str, int]]
"""Accounts of one organization, each with the amount that it gains; negative if it loses."""


def post(
    connection: sa.Connection,
    organization_id: str,
    transaction_id: str,
    amounts: Amounts,
    *,
    at: float,
    request_id: str = "",
) -> bool:
    """Append a transaction once, and pay debt (`overspend`) from what the wallet gains. Return
    whether it is new.

    The amounts sum to zero; accounts that do not exist yet are opened. `transaction_id` names the
    transaction in the whole database, so it contains the organization's id or another id that is
    unique. Raise `ReferenceConflictError` if the name was used for other amounts, and
    `InsufficientFundsError` if the wallet has less than it would lose.
    """
    lock_names(connection, [organization_id])
    moved = [(account, amount) for account, amount in amounts if amount]
    known = store.read_transaction(connection, transaction_id)
    if known:
        if known == {name_account(organization_id, account): amount for account, amount in moved}:
            return False
        raise ReferenceConflictError(
            f"The transaction {transaction_id!r} exists with other amounts; choose a new name.",
            param="reference",
        )
    store.open_accounts(connection, organization_id)
    further = [account for account, _ in amounts if account not in ACCOUNTS]
    store.open_accounts(connection, organization_id, further)
    wallet = name_account(organization_id, "wallet")
    overspend = name_account(organization_id, "overspend")
    balances = store.lock_balances(connection, [wallet, overspend])
    gained = sum([amount for account, amount in moved if account == "wallet"])
    if gained < 0 and balances[wallet] + gained < 0:
        raise InsufficientFundsError(
            needed_nano=-gained, available_nano=balances[wallet], scope_id=organization_id
        )
    entries = make_transaction(transaction_id, organization_id, moved, request_id=request_id)
    paid = min(-balances[overspend], gained)
    if paid > 0:
        entries += make_transaction(
            f"repay:{transaction_id.removeprefix('fund:')}",
            organization_id,
            [("wallet", -paid), ("overspend", paid)],
        )
    append(connection, entries, at=int(at * MICROSECONDS))
    return True


def append(connection: sa.Connection, entries: Sequence[LedgerEntry], *, at: int) -> None:
    """Append the entries of whole transactions and change the balances. `at` is in unix
    microseconds."""
    store.append_entries(connection, entries, at=at)
    store.add_balances(connection, entries)


def fund(
    connection: sa.Connection, organization_id: str, *, amount_nano: int, reference: str, now: float
) -> bool:
    """Grant an organization money, once for each reference. Return whether the grant is new.

    Debt (`overspend`) is paid from it first. Raise `ReferenceConflictError` if the reference was
    used for another amount.
    """
    assert amount_nano > 0, "a grant is positive"
    try:
        return post(
            connection,
            organization_id,
            f"fund:{organization_id}:{reference}",
            [("funding", -amount_nano), ("wallet", amount_nano)],
            at=now,
        )
    except ReferenceConflictError as error:
        raise ReferenceConflictError(
            f"The reference {reference!r} was used for another amount; choose a new one.",
            param="reference",
        ) from error


def read_debt(connection: sa.Connection, organization_id: str) -> int:
    """Return the cost above holds that the wallet did not cover. The next grant pays it."""
    return -store.read_balance(connection, name_account(organization_id, "overspend"))


def read_available(connection: sa.Connection, organization_id: str) -> int:
    """Return the amount that an organization can spend now, without what is held for open calls."""
    return store.read_balance(connection, name_account(organization_id, "wallet"))
