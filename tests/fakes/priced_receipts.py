"""Receipts whose cost follows from their usage at a shipped price."""

from __future__ import annotations

from typing import Any

from headgate.audit.service import AuditLog
from headgate.catalog.model.rates import PriceRow
from headgate.catalog.service.catalog import Catalog
from headgate.catalog.service.prices import PriceService
from headgate.kit.clock import Clock
from headgate.llm.usage import Usage
from headgate.relay.ports import Receipt
from tests.fakes import example_receipt
from tests.fakes.ledger import NOVEMBER, ORG

MODEL = "gpt-5.4-mini"
USAGE = Usage(input_tokens=1_001, cached_tokens=333, output_tokens=77, reasoning_tokens=10)
CATALOG = Catalog.load()


def build_prices(clock: Clock) -> PriceService:
    return PriceService(CATALOG, AuditLog(clock), clock)


def find_price(at: float = NOVEMBER) -> PriceRow:
    price = CATALOG.price(MODEL, at)
    assert price is not None
    return price


def make_priced(usage: Usage = USAGE, **changes: Any) -> Receipt:
    """Return the receipt of a call that was charged at its price of November 2026."""
    price = find_price()
    tier = changes.get("service_tier", "default")
    cost_nano = price.cost(usage, tier)
    assert cost_nano is not None
    fields: dict[str, Any] = {
        "organization_id": ORG,
        "created_at": NOVEMBER,
        "usage": usage,
        "price_id": price.id,
        "cost_nano": cost_nano,
        **changes,
    }
    return example_receipt.make_receipt(**fields)
