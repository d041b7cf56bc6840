"""Find the prices that receipts name, each once."""

from __future__ import annotations

import sqlalchemy as sa

from headgate.catalog.model.price import PriceNotFoundError
from headgate.catalog.model.rates import PriceRow
from headgate.catalog.service.prices import PriceService

CACHED_MAX = 1_000


class PriceVersions:
    """Remember the prices that were found, at most `CACHED_MAX` of them."""

    def __init__(self, prices: PriceService) -> None:
        self._prices = prices
        self._found: dict[str, PriceRow | None] = {}

    def find(self, connection: sa.Connection, price_id: str) -> PriceRow | None:
        """Return the price of a receipt's `price_id`, as it was when the receipt was written; None
        if there is none."""
        if price_id not in self._found:
            if len(self._found) >= CACHED_MAX:
                self._found.clear()
            try:
                self._found[price_id] = self._prices.find_by_id(connection, price_id)
            except PriceNotFoundError:
                self._found[price_id] = None
        return self._found[price_id]
