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
    """A model provider with the models that this organization shows. `default_credential_id` names
    the credential for calls that name none; it is null if the organization has no credential for
    the provider."""

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
    """The model providers. `active_llms` are those that the organization has a valid credential
    for."""

    total: int
    active_llms: list[OrganizationLlmResponse]
    inactive_llms: list[OrganizationLlmResponse]


class ModelVisibilityUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Whether each model is shown, by model id. Models that are missing are shown."""

    llm_model_visibility: Annotated[
        dict[Annotated[str, Meta(min_length=1, max_length=200)], bool], Meta(max_length=1_000)
    ]


class ModelVisibilityResponse(msgspec.Struct):
    """Whether each model is shown, by model id."""

    llm_model_visibility: dict[str, bool]
    version: int


class ComposerLlmUpdate(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The default model and its provider; null for none."""

    composer_llm: LlmChoice | None


class ComposerLlmResponse(msgspec.Struct):
    """The default model of the organization."""

    composer_llm: LlmChoice | None
    version: int


def to_model_visibility_response(settings: OrganizationSettings) -> ModelVisibilityResponse:
    return ModelVisibilityResponse(dict(settings.llm_model_visibility), settings.version)


def to_composer_llm_response(settings: OrganizationSettings) -> ComposerLlmResponse:
    return ComposerLlmResponse(settings.composer_llm, settings.version)
