"""An organization's model settings as the platform API reads and writes them."""

from __future__ import annotations

from typing import Annotated

import msgspec
from msgspec import Meta

from headgate.api.schemas.integrations import ModelResponse
from headgate.catalog.model.settings import (
    LlmChoice,
    OrganizationSettings,
)


class OrganizationLlmResponse(msgspec.Struct):
    """An LLM provider with the models that this organization shows. Those that it has a credential
    for name the one that is taken where a call names none."""

    integration_name: str
    provider_id: str
    display_name: str
    description: str
    logo: str | None
    default_model: str | None
    models: list[ModelResponse]
    default_credential_id: str | None
    default_credential_display_name: str | None


class OrganizationLlms(msgspec.Struct):
    """Active are those with a credential that is good."""

    total: int
    active_llms: list[OrganizationLlmResponse]
    inactive_llms: list[OrganizationLlmResponse]


class ModelVisibilityUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """By model id whether it is shown; one that is not named is."""

    llm_model_visibility: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=200)], bool], Meta(max_length=1_000)
    ]


class ModelVisibilityResponse(msgspec.Struct):
    """Which models are shown."""

    llm_model_visibility: dict[str, bool]
    version: int


class ComposerLlmUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The model that is taken by default, with who serves it; null for none."""

    composer_llm: LlmChoice | None


class ComposerLlmResponse(msgspec.Struct):
    """The model that is taken by default."""

    composer_llm: LlmChoice | None
    version: int


def to_model_visibility_response(settings: OrganizationSettings) -> ModelVisibilityResponse:
    """As the API writes it."""
    return ModelVisibilityResponse(dict(settings.llm_model_visibility), settings.version)


def to_composer_llm_response(settings: OrganizationSettings) -> ComposerLlmResponse:
    """As the API writes it."""
    return ComposerLlmResponse(settings.composer_llm, settings.version)
