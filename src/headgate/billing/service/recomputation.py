"""Recompute all receipts of a range, to prove that none of them has changed."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager
from typing import Protocol

import msgspec
import sqlalchemy as sa

from headgate.billing.model.recomputation import Basis, Recomputation, recompute
from headgate.billing.service.price_versions import PriceVersions
from headgate.billing.store import receipts as store
from headgate.catalog.service.prices import PriceService
from headgate.metering.model.receipt_filter import ReceiptCursor, ReceiptFilter, find_place
from headgate.metering.store import receipt_list
from headgate.relay.ports import Receipt

ROWS_AT_ONCE = 2_000


class Snapshots(Protocol):
    def reading(self) -> AbstractContextManager[sa.Connection]:
        """Return a snapshot to read from."""
        ...


class CostDifference(msgspec.Struct, frozen=True):
    """Name a receipt whose cost does not follow from its usage. `recomputed_nano` is None where
    nothing can be recomputed; `problem` says why."""

    request_id: str
    organization_id: str
    created_at: float
    basis: Basis
    price_id: str | None
    cost_nano: int
    recomputed_nano: int | None
    problem: str | None


class RecomputationTotals(msgspec.Struct):
    """Count receipts by what their cost follows from, and those that differ."""

    receipts: int = 0
    differences: int = 0
    cost_nano: int = 0
    by_basis: dict[str, int] = {}

    def add(self, receipt: Receipt, found: Recomputation) -> bool:
        """Count a receipt. Return whether it is as it must be."""
        matches = found.matches(receipt)
        self.receipts += 1
        self.differences += not matches
        self.cost_nano += receipt.cost_nano
        self.by_basis[found.basis] = self.by_basis.get(found.basis, 0) + 1
        return matches


class Recomputer:
    """Recompute the receipts of organizations, a few at a time, each on a snapshot of its own:
    receipts are only ever added."""

    def __init__(self, database: Snapshots, prices: PriceService) -> None:
        self._database = database
        self._versions = PriceVersions(prices)
        self.totals = RecomputationTotals()

    def list_organizations(self) -> list[str]:
        """Return the organizations that have receipts."""
        with self._database.reading() as connection:
            return receipt_list.list_organizations(connection)

    def run(
        self,
        ranges: Iterable[ReceiptFilter],
        on_progress: Callable[[RecomputationTotals], None] = lambda _totals: None,
    ) -> Iterator[CostDifference]:
        """Yield every receipt of the ranges that differs, oldest first within each. `totals` counts
        all of them."""
        for each in ranges:
            after: ReceiptCursor | None = None
            while True:
                receipts, differences = self._recompute_some(each, after)
                yield from differences
                on_progress(self.totals)
                if len(receipts) < ROWS_AT_ONCE:
                    break
                after = find_place(receipts[-1])

    def _recompute_some(
        self, filters: ReceiptFilter, after: ReceiptCursor | None
    ) -> tuple[list[Receipt], list[CostDifference]]:
        with self._database.reading() as connection:
            receipts = receipt_list.list_range(connection, filters, after=after, limit=ROWS_AT_ONCE)
            held = store.select_held(connection, [each.request_id for each in receipts])
            find_price = functools.partial(self._versions.find, connection)
            recomputed = [(each, recompute(each, find_price, held.get)) for each in receipts]
        return receipts, [
            make_difference(receipt, found)
            for receipt, found in recomputed
            if not self.totals.add(receipt, found)
        ]


def make_difference(receipt: Receipt, found: Recomputation) -> CostDifference:
    recomputed = None if found.itemization is None else found.itemization.cost_nano
    return CostDifference(
        receipt.request_id,
        receipt.organization_id,
        receipt.created_at,
        found.basis,
        receipt.price_id,
        receipt.cost_nano,
        recomputed,
        found.problem,
    )
