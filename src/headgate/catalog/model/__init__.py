"""What integrations, models and prices are, and the rules that they keep."""

from headgate.catalog.model.manifest import (
    ActionEntry,
    AuthSchema,
    CatalogInvalid,
    IntegrationMissing,
    Manifest,
    ModelEntry,
    TestEndpoint,
)
from headgate.catalog.model.price import (
    DollarRates,
    PriceBlock,
    PriceEntry,
    PriceMissing,
    PriceRefused,
)
from headgate.catalog.model.rates import PriceRow, Rates
from headgate.catalog.model.settings import (
    LlmChoice,
    OrganizationSettings,
    SettingsRefused,
)

__all__ = [
    "ActionEntry",
    "AuthSchema",
    "CatalogInvalid",
    "DollarRates",
    "IntegrationMissing",
    "LlmChoice",
    "Manifest",
    "ModelEntry",
    "OrganizationSettings",
    "PriceBlock",
    "PriceEntry",
    "PriceMissing",
    "PriceRefused",
    "PriceRow",
    "Rates",
    "SettingsRefused",
    "TestEndpoint",
]
