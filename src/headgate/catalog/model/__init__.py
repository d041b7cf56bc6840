"""What integrations, models and prices are, and the rules that they keep."""

from headgate.catalog.model.manifest import (
    ActionEntry,
    AuthSchema,
    IntegrationManifest,
    IntegrationNotFoundError,
    InvalidCatalogError,
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
from headgate.catalog.model.rates import NanoRates, PriceRow
from headgate.catalog.model.settings import (
    InvalidOrganizationSettingError,
    LlmChoice,
    OrganizationSettings,
)

__all__ = [
    "ActionEntry",
    "AuthSchema",
    "DollarRates",
    "IntegrationManifest",
    "IntegrationNotFoundError",
    "InvalidCatalogError",
    "InvalidOrganizationSettingError",
    "InvalidPriceError",
    "LlmChoice",
    "ModelEntry",
    "NanoRates",
    "OrganizationSettings",
    "PriceBlock",
    "PriceEntry",
    "PriceNotFoundError",
    "PriceRow",
    "TestEndpoint",
]
