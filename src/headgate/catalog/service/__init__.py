"""The catalog in memory, the price book, and what organizations decide of both."""

from headgate.catalog.service.book import (
    ListedPrice,
    PriceBook,
    PriceFilter,
    PriceRequest,
    PriceState,
)
from headgate.catalog.service.browse import BrowseQuery, browse
from headgate.catalog.service.catalog import TOPIC, Catalog
from headgate.catalog.service.settings import CatalogSettings

__all__ = [
    "TOPIC",
    "BrowseQuery",
    "Catalog",
    "CatalogSettings",
    "ListedPrice",
    "PriceBook",
    "PriceFilter",
    "PriceRequest",
    "PriceState",
    "browse",
]
