"""The models of an organization: model providers, hidden models, and the default model."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.routes.integrations import build_price_finder, list_llm_manifests
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.integrations import to_model_responses
from headgate.api.schemas.llms import (
    ComposerLlmResponse,
    ComposerLlmUpdate,
    ModelVisibilityResponse,
    ModelVisibilityUpdate,
    OrganizationLlmResponse,
    OrganizationLlms,
    to_composer_llm_response,
    to_model_visibility_response,
)
from headgate.catalog.model.manifest import IntegrationManifest
from headgate.catalog.model.settings import (
    InvalidOrganizationSettingError,
    LlmChoice,
    OrganizationSettings,
)
from headgate.credentials.model.credential import CredentialRecord
from headgate.credentials.service import CredentialFilter

OPERATIONS = Operations(
    "LLMs", "The models that an organization can call, shows in lists, and uses by default."
)
CREDENTIALS_MAX = 10_000
READ = organization("catalog:read")
WRITE = organization("catalog:write")


@OPERATIONS.get(
    "/api/organizations/llms", access=READ, summary="List the organization's model providers"
)
async def list_organization_llms(context: RequestContext[Empty, Empty]) -> OrganizationLlms:
    """Return all model providers: `active_llms` are those that the organization has a valid
    credential for, `inactive_llms` are the others. Hidden models are left out. The default
    credential of a provider is the one marked as default, or else the newest."""

    def read(connection: sa.Connection) -> tuple[OrganizationSettings, list[CredentialRecord]]:
        settings = context.services.catalog_settings.read(connection, context.organization_id)
        return settings, list_credentials(context, connection)

    settings, credentials = await context.read(read)
    llms = [
        to_organization_llm_response(context, manifest, settings, credentials)
        for manifest in list_llm_manifests(context)
    ]
    return OrganizationLlms(
        len(llms),
        [llm for llm in llms if llm.default_credential_id is not None],
        [llm for llm in llms if llm.default_credential_id is None],
    )


@OPERATIONS.get(
    "/api/organizations/settings/llm-model-visibility",
    access=READ,
    summary="Read which models are shown",
)
async def get_llm_model_visibility(
    context: RequestContext[Empty, Empty],
) -> ModelVisibilityResponse:
    """Return the models that the organization shows or hides in lists. Models that are not in the
    map are shown."""
    return to_model_visibility_response(
        await context.read(lambda connection: read_settings(context, connection))
    )


@OPERATIONS.put(
    "/api/organizations/settings/llm-model-visibility",
    access=WRITE,
    summary="Set which models are shown",
    example={"llm_model_visibility": {"gpt-5.5-pro": False, "gpt-5.4": True}},
)
async def put_llm_model_visibility(
    context: RequestContext[Empty, ModelVisibilityUpdate],
) -> ModelVisibilityResponse:
    """Replace the whole map of shown and hidden models. Hidden models are left out of lists; calls
    to them still work."""
    context.principal.check_organization_wide()

    def save(connection: sa.Connection) -> OrganizationSettings:
        context.check_version(read_settings(context, connection))
        return context.services.catalog_settings.set_model_visibility(
            connection, context.organization_id, context.body.llm_model_visibility, by=context.actor
        )

    return to_model_visibility_response(await context.write(save))


@OPERATIONS.get(
    "/api/organizations/settings/composer-llm", access=READ, summary="Read the default model"
)
async def get_composer_llm(context: RequestContext[Empty, Empty]) -> ComposerLlmResponse:
    """Return the default model of the organization, or null if none is set."""
    return to_composer_llm_response(
        await context.read(lambda connection: read_settings(context, connection))
    )


@OPERATIONS.put(
    "/api/organizations/settings/composer-llm",
    access=WRITE,
    summary="Set the default model",
    example={
        "composer_llm": {
            "integration_name": "openai",
            "provider_id": "openai",
            "model_id": "gpt-4.1",
        }
    },
)
async def put_composer_llm(
    context: RequestContext[Empty, ComposerLlmUpdate],
) -> ComposerLlmResponse:
    """Set the default model of the organization by integration, provider and model; null removes
    it. `credential_id` must name a credential of this organization for that integration. Without
    it, each call uses the default credential."""
    context.principal.check_organization_wide()

    def save(connection: sa.Connection) -> OrganizationSettings:
        context.check_version(read_settings(context, connection))
        check_credential(context, connection, context.body.composer_llm)
        return context.services.catalog_settings.choose_default(
            connection, context.organization_id, context.body.composer_llm, by=context.actor
        )

    return to_composer_llm_response(await context.write(save))


def read_settings(
    context: RequestContext[Any, Any], connection: sa.Connection
) -> OrganizationSettings:
    return context.services.catalog_settings.read(connection, context.organization_id)


def list_credentials(
    context: RequestContext[Any, Any], connection: sa.Connection
) -> list[CredentialRecord]:
    """Return the organization's valid credentials, the default one and the newest first."""
    now = context.services.clock.now()
    filters = CredentialFilter(context.organization_id)
    page, _ = context.services.credentials.list_page(
        connection, filters, limit=CREDENTIALS_MAX, offset=0
    )
    own = [record for record in page if record.expires_at is None or record.expires_at > now]
    return sorted(own, key=lambda each: (not each.is_default, -each.created_at, each.id))


def check_credential(
    context: RequestContext[Any, Any], connection: sa.Connection, choice: LlmChoice | None
) -> None:
    """Raise `InvalidSettingsError` for a credential that does not belong to the organization."""
    if choice is None or choice.credential_id is None:
        return
    for record in list_credentials(context, connection):
        if (record.id, record.integration) == (choice.credential_id, choice.integration_name):
            return
    message = f"This organization has no such credential of {choice.integration_name}."
    raise InvalidOrganizationSettingError(message, param="composer_llm.credential_id")


def to_organization_llm_response(
    context: RequestContext[Any, Any],
    manifest: IntegrationManifest,
    settings: OrganizationSettings,
    credentials: list[CredentialRecord],
) -> OrganizationLlmResponse:
    default = next((each for each in credentials if each.integration == manifest.name), None)
    models = to_model_responses(manifest, build_price_finder(context))
    return OrganizationLlmResponse(
        integration_name=manifest.name,
        provider_id=manifest.name,
        display_name=manifest.display_name,
        description=manifest.description,
        logo=manifest.logo or None,
        default_model=manifest.default_model,
        models=[model for model in models if not settings.is_hidden(model.id)],
        default_credential_id=default.id if default else None,
        default_credential_display_name=default.name if default else None,
    )
