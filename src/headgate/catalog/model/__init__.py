"""What integrations, models and prices are, and the rules that they keep."""

from headgate.catalog.model.manifest import (
    ActionEntry,
    AuthSchema,
    IntegrationNotFoundError,
    InvalidCatalogError,
    Manifest,
    ModelEntry,
    TestEndpoint,
)
from headgate.catalog.model.price import (
    DollarRates,
    InvalidPriceError,
    PriceBlock,
    PriceEntry,
    PriceNotFoundError,
)
from headgate.catalog.model.rates import PriceRow, Rates
from headgate.catalog.model.settings import (
    InvalidOrganizationSettingError,
    LlmChoice,
    OrganizationSettings,
)

__all__ = [
    "ActionEntry",
    "AuthSchema",
    "DollarRates",
    "IntegrationNotFoundError",
    "InvalidCatalogError",
    "InvalidOrganizationSettingError",
    "InvalidPriceError",
    "LlmChoice",
    "Manifest",
    "ModelEntry",
    "OrganizationSettings",
    "PriceBlock",
    "PriceEntry",
    "PriceNotFoundError",
    "PriceRow",
    "Rates",
    "TestEndpoint",
]
