"""What an organization decides of the catalog: which models it shows, which it takes by default."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.kit.errors import HeadgateError, Kind

HIDDEN_MAX = 1_000
"""Models that one organization can have an opinion of."""

Reference = Annotated[str, Meta(min_length=1, max_length=200)]


class InvalidOrganizationSettingError(HeadgateError):
    """A setting of the organization names something that does not exist or cannot be used.

    Correct the field that `loc` names.
    """

    kind = Kind.UNPROCESSABLE
    code = "invalid_setting"


class LlmChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """A model and who serves it. Without a credential, the organization's default one does."""

    integration_name: Reference
    provider_id: Reference
    model_id: Reference
    credential_id: Reference | None = None


class OrganizationSettings(msgspec.Struct, frozen=True):
    """The settings of one organization; a model that is not named is shown."""

    llm_model_visibility: Mapping[str, bool] = {}
    composer_llm: LlmChoice | None = None
    version: int = 0
    """How often they were changed."""

    def hides(self, model_id: str) -> bool:
        """Whether the model is missing from the organization's list."""
        return not self.llm_model_visibility.get(model_id, True)
