"""Recompute the cost of a receipt from its raw usage and the price that it names, without I/O.

All amounts are nano-dollars.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Literal

import msgspec

from headgate.catalog.model.line_items import Itemization, add_unpriced, itemize, make_single
from headgate.catalog.model.rates import PriceRow
from headgate.metering.model import CORRECTED
from headgate.relay.ports import Receipt

NO_RATE = re.compile(r"no rate for it in (?P<price_id>\S+)")
"""The reason of a receipt whose price lacks a rate (`relay.pricing`)."""

Basis = Literal["usage", "hold", "highest_rates", "free", "correction"]
"""What a cost follows from: the usage at its price; the hold, where the usage is not known; the
highest rates, where the price lacks one; nothing; or the decision of whoever corrected it."""

FindPrice = Callable[[str], PriceRow | None]
FindHold = Callable[[str], int | None]
"""Return the amount that was held for a request; None without a hold."""


class Recomputation(msgspec.Struct, frozen=True):
    """Hold what a receipt must cost, and of what that consists.

    `itemization` is None where nothing can be recomputed; `problem` then says why.
    """

    basis: Basis
    itemization: Itemization | None = None
    price: PriceRow | None = None
    problem: str | None = None

    def matches(self, receipt: Receipt) -> bool:
        return self.itemization is not None and self.itemization.cost_nano == receipt.cost_nano


def recompute(receipt: Receipt, find_price: FindPrice, find_hold: FindHold) -> Recomputation:
    """Return what a receipt must cost by its recorded usage, at the price version that it names."""
    if receipt.outcome == CORRECTED:
        # Decided by an operator or by a late settlement; its usage is that of the first receipt.
        return Recomputation("correction", make_single("correction", receipt.cost_nano))
    if receipt.pricing == "free":
        return Recomputation("free", Itemization((), 0))
    if receipt.pricing in ("priced", "partial") and receipt.usage is not None:
        return _recompute_usage(receipt, find_price)
    if receipt.pricing == "unpriced" and receipt.usage is not None:
        found = _recompute_highest(receipt, find_price, find_hold)
        if found is not None:
            return found
    held = find_hold(receipt.request_id)
    if held is None and receipt.managed:
        return Recomputation("hold", problem="it was charged its hold, and there is no hold")
    return Recomputation("hold", make_single("hold", held or 0) if held else Itemization((), 0))


def _recompute_usage(receipt: Receipt, find_price: FindPrice) -> Recomputation:
    price = find_price(receipt.price_id or "")
    if price is None:
        return Recomputation("usage", problem=f"there is no price {receipt.price_id!r}")
    usage = receipt.usage
    assert usage is not None, "only receipts with a usage come here"
    unpriced: list[tuple[str, int]] = []
    if receipt.pricing == "partial":
        fees = price.tool_fees
        unpriced = [(name, n) for name, n in usage.tool_calls.items() if name not in fees]
        known = {name: n for name, n in usage.tool_calls.items() if name in fees}
        usage = msgspec.structs.replace(usage, tool_calls=known)
    found = itemize(price, usage, receipt.service_tier)
    # The sum that is charged, and that of the items, are computed apart: they must agree.
    if found is None or found.cost_nano != price.cost(usage, receipt.service_tier):
        return Recomputation("usage", None, price, "its usage has no rate in its price")
    return Recomputation("usage", add_unpriced(found, unpriced), price)


def _recompute_highest(
    receipt: Receipt, find_price: FindPrice, find_hold: FindHold
) -> Recomputation | None:
    """Return the cost of tokens at the highest rates of a price that lacks one, at most the hold;
    None where there is no such bound."""
    named = NO_RATE.fullmatch(receipt.unpriced_reason or "")
    price = find_price(named["price_id"]) if named else None
    usage = receipt.usage
    if price is None or usage is None:
        return None
    bound = price.bound(usage.input_tokens, usage.output_tokens, None)
    if bound is None:
        return None
    cost = min(bound, find_hold(receipt.request_id) or 0)
    items = make_single("highest_rates", cost) if cost else Itemization((), 0)
    return Recomputation("highest_rates", items, price)
