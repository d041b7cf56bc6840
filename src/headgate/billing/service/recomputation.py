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
from headgate.kit.page_cursor import PageCursor
from headgate.metering.model.receipt_filter import ReceiptFilter, find_place
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


class RecomputedReceipts(msgspec.Struct, frozen=True):
    """Hold some recomputed receipts of a range, and the place behind them; None at its end."""

    recomputed: list[tuple[Receipt, Recomputation]]
    next: PageCursor | None

    def list_differences(self) -> list[CostDifference]:
        return [make_difference(*each) for each in self.recomputed if not each[1].matches(each[0])]


class RecomputationTotals(msgspec.Struct):
    """Count receipts by what their cost follows from, and those that differ."""

    receipts: int = 0
    differences: int = 0
    cost_nano: int = 0
    by_basis: dict[str, int] = {}

    def add(self, receipt: Receipt, found: Recomputation) -> None:
        self.receipts += 1
        self.differences += not found.matches(receipt)
        self.cost_nano += receipt.cost_nano
        self.by_basis[found.basis] = self.by_basis.get(found.basis, 0) + 1


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
            after: PageCursor | None = None
            while True:
                with self._database.reading() as connection:
                    some = recompute_some(
                        connection, self._versions, each, after=after, rows_max=ROWS_AT_ONCE
                    )
                for receipt, found in some.recomputed:
                    self.totals.add(receipt, found)
                yield from some.list_differences()
                on_progress(self.totals)
                after = some.next
                if after is None:
                    break


def recompute_some(
    connection: sa.Connection,
    versions: PriceVersions,
    filters: ReceiptFilter,
    *,
    after: PageCursor | None,
    rows_max: int,
) -> RecomputedReceipts:
    """Recompute the oldest receipts of a range, from behind a place."""
    receipts = receipt_list.list_range(connection, filters, after=after, limit=rows_max)
    held = store.select_held(connection, [each.request_id for each in receipts])
    find_price = functools.partial(versions.find, connection)
    recomputed = [(each, recompute(each, find_price, held.get)) for each in receipts]
    last = receipts[-1] if len(receipts) == rows_max else None
    return RecomputedReceipts(recomputed, None if last is None else find_place(last))


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
