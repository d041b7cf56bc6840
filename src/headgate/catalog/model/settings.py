"""Settings of an organization: which models it shows, and its default model."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.kit.errors import HeadgateError, Kind

HIDDEN_MAX = 1_000
"""The most models that the visibility map of an organization can name."""

Reference = Annotated[str, Meta(min_length=1, max_length=200)]


class InvalidOrganizationSettingError(HeadgateError):
    """A setting of the organization names something that does not exist or cannot be used.

    Correct the field that `loc` names.
    """

    kind = Kind.UNPROCESSABLE
    code = "invalid_setting"


class LlmChoice(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Name a model and the integration that serves it. Without `credential_id`, the
    organization's default credential is used."""

    integration_name: Reference
    provider_id: Reference
    model_id: Reference
    credential_id: Reference | None = None


class OrganizationSettings(msgspec.Struct, frozen=True):
    """Hold the settings of one organization. Models that are not named are shown."""

    llm_model_visibility: Mapping[str, bool] = {}
    composer_llm: LlmChoice | None = None
    version: int = 0
    """The number of changes so far."""

    def is_hidden(self, model_id: str) -> bool:
        return not self.llm_model_visibility.get(model_id, True)
