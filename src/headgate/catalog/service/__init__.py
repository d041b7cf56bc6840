"""The catalog in memory, the price book, and what organizations decide of both."""

from headgate.catalog.service.browse import IntegrationFilter, browse
from headgate.catalog.service.catalog import TOPIC, Catalog
from headgate.catalog.service.prices import (
    ListedPrice,
    PriceFilter,
    PriceRequest,
    PriceService,
    PriceState,
)
from headgate.catalog.service.settings import CatalogSettings

__all__ = [
    "TOPIC",
    "Catalog",
    "CatalogSettings",
    "IntegrationFilter",
    "ListedPrice",
    "PriceFilter",
    "PriceRequest",
    "PriceService",
    "PriceState",
    "browse",
]
