"""The transactions of a wallet as people read them. All amounts are nano-dollars."""

from __future__ import annotations

from typing import Literal, get_args

import msgspec

TransactionKind = Literal[
    "hold",
    "settlement",
    "excess",
    "grant",
    "debt_repayment",
    "top_up",
    "refund",
    "dispute",
    "dispute_reversal",
    "adjustment",
    "other",
]
KINDS: tuple[TransactionKind, ...] = get_args(TransactionKind)

_KINDS_BY_PREFIX: dict[str, TransactionKind] = {
    "hold": "hold",
    "settle": "settlement",
    "excess": "excess",
    "fund": "grant",
    "repay": "debt_repayment",
    "top_up": "top_up",
    "refund": "refund",
    "dispute": "dispute",
    "dispute_reversal": "dispute_reversal",
    "adjustment": "adjustment",
}


class WalletEntry(msgspec.Struct, frozen=True):
    """Represent a change of the wallet.

    `number` orders the entries. `amount_nano` is what the wallet gained, negative if it lost.
    `reference` is what the transaction is about beside a request: a payment, or the name of a
    grant. `created_at` is in unix seconds.
    """

    number: int
    transaction_id: str
    amount_nano: int
    request_id: str
    created_at: float

    @property
    def kind(self) -> TransactionKind:
        return find_kind(self.transaction_id)

    @property
    def reference(self) -> str:
        return "" if self.request_id else find_reference(self.transaction_id)


def find_kind(transaction_id: str) -> TransactionKind:
    """Return the kind of a transaction, which its id begins with."""
    return _KINDS_BY_PREFIX.get(transaction_id.partition(":")[0], "other")


def find_reference(transaction_id: str) -> str:
    """Return the last part of `<kind>:<organization>:<reference>`."""
    return transaction_id.split(":", 2)[-1]
