"""A receipt with all that explains its amount. All amounts are nano-dollars."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from headgate.billing.model.recomputation import Recomputation
from headgate.metering.model import CORRECTED
from headgate.relay.ports import Receipt
from headgate.relay.targets import ATTEMPTS_MAX

_CORRECTION = re.compile(r"(?P<request_id>.+)\.c[0-9]+")


class CallHold(msgspec.Struct, frozen=True):
    """Hold what was set aside for a call: the amount that was granted, and what became of it.

    `state` is `held`, `settled` or `released`. `created_at` is in unix seconds.
    """

    amount_nano: int
    state: str
    managed: bool
    month: str
    created_at: float

    def find_released(self, cost_nano: int) -> int:
        """Return what was given back of it when the call was settled."""
        return 0 if self.state == "held" else max(0, self.amount_nano - cost_nano)


class ReceiptEntry(msgspec.Struct, frozen=True):
    """Represent an entry of the ledger that belongs to a call. `created_at` is in unix seconds."""

    number: int
    transaction_id: str
    account_id: str
    amount_nano: int
    created_at: float


class ReceiptDetails(msgspec.Struct, frozen=True):
    """Hold a receipt with its line items, its hold, its entries and its corrections, oldest
    first."""

    receipt: Receipt
    recomputation: Recomputation
    hold: CallHold | None = None
    entries: tuple[ReceiptEntry, ...] = ()
    corrections: tuple[Receipt, ...] = ()

    @property
    def total_nano(self) -> int:
        """Return what the call costs after its corrections."""
        return self.receipt.cost_nano + sum(each.cost_nano for each in self.corrections)


def find_corrected(receipt: Receipt) -> str | None:
    """Return the request whose cost a receipt corrects; None for the receipt of a call."""
    found = _CORRECTION.fullmatch(receipt.request_id)
    return found["request_id"] if found and receipt.outcome == CORRECTED else None


def find_wallet_debit(receipt: Receipt) -> int:
    """Return what the wallet paid for a call: nothing for one on an own credential, and what the
    plan's credits did not pay for others."""
    return receipt.cost_nano - receipt.credit_nano if receipt.managed else 0


def name_transactions(request_id: str, corrections: Sequence[str]) -> list[str]:
    """Return the ids of all transactions that a call can have."""
    names = [f"{kind}:{request_id}" for kind in ("hold", "settle", "excess")]
    for index in range(1, ATTEMPTS_MAX):
        lost = f"{request_id}.a{index}"
        names += [f"hold:{request_id}.{index}", f"settle:{lost}", f"excess:{lost}"]
    for each in corrections:
        names += [f"correct:{each}", f"repay:correct:{each}"]
    return names
