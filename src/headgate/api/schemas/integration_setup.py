"""Setting up integrations, as the platform API reads and writes it."""

from __future__ import annotations

from typing import Annotated, Any

import msgspec
from msgspec import Meta

from headgate.api.schemas.fields import build_response
from headgate.connectors.model.integration import (
    IntegrationDescription,
    IntegrationOverview,
    IntegrationOverviews,
    PublicIntegration,
)
from headgate.connectors.model.setup import SetupField
from headgate.connectors.service.setup import RemovalResult, SetupResult
from headgate.vault.model.secret import VALUE_CHARACTERS_MAX

Service = Annotated[str, Meta(min_length=1, max_length=64)]
SetupValue = Annotated[str, Meta(max_length=VALUE_CHARACTERS_MAX)]


class SetupFieldResponse(msgspec.Struct):
    """A value that an integration needs, for a form."""

    name: str
    display_name: str
    description: str
    required: bool
    sensitive: bool
    pattern: str
    sample_format: str
    default: str | None
    about_url: str | None


class IntegrationEndpointResponse(msgspec.Struct):
    """An endpoint of an integration, and the tool that agents know it by."""

    name: str
    title: str
    tool: str


class EndpointDescriptionResponse(msgspec.Struct):
    """An endpoint of an integration, with the JSON Schema of its input."""

    name: str
    title: str
    tool: str
    description: str
    input_schema: dict[str, Any]


class IntegrationOverviewResponse(msgspec.Struct):
    """An integration with the endpoints that the caller may run."""

    name: str
    display_name: str
    description: str
    type: str
    needs_setup: bool
    endpoints: list[IntegrationEndpointResponse]


class IntegrationOverviewsResponse(msgspec.Struct):
    """The integrations that can be used now, and those that can be set up."""

    configured: list[IntegrationOverviewResponse]
    available: list[IntegrationOverviewResponse]


class ListedIntegrationsResponse(msgspec.Struct):
    """The integrations of the organization, in an envelope."""

    success: bool
    data: IntegrationOverviewsResponse


class IntegrationSchemaResponse(msgspec.Struct):
    """What an integration needs, and what its endpoints take."""

    name: str
    display_name: str
    description: str
    is_configured: bool
    docs_url: str | None
    credentials: list[SetupFieldResponse]
    instructions: list[str]
    endpoints: list[EndpointDescriptionResponse]


class DescribedIntegrationResponse(msgspec.Struct):
    """The schema of an integration, in an envelope."""

    success: bool
    data: IntegrationSchemaResponse


class PublicIntegrationResponse(msgspec.Struct):
    """An integration that comes with Headgate, as everybody may see it."""

    name: str
    display_name: str
    description: str
    type: str
    categories: list[str]
    docs_url: str | None
    credentials: list[SetupFieldResponse]
    endpoints: list[IntegrationEndpointResponse]


class PublicCatalogResponse(msgspec.Struct):
    """The integrations that come with Headgate, in an envelope."""

    success: bool
    data: list[PublicIntegrationResponse]


class SchemaQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select one endpoint."""

    endpoint: Annotated[str, Meta(min_length=1, max_length=64)] | None = None


class IntegrationSetup(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """The values of an integration, by the names of its schema."""

    service: Service
    secrets: Annotated[dict[Service, SetupValue], Meta(max_length=16)]
    test: bool = False

    def __repr__(self) -> str:
        return f"IntegrationSetup({self.service})"


class SetupResultResponse(msgspec.Struct):
    """What was stored, without its values."""

    service: str
    credential_id: str
    secret_names: list[str]
    is_new: bool
    is_default: bool
    is_tested: bool


class StoredSetupResponse(msgspec.Struct):
    """What a setup stored, in an envelope."""

    success: bool
    data: SetupResultResponse


class RemovalResultResponse(msgspec.Struct):
    """What was deleted, and what is left."""

    service: str
    removed_credentials: list[str]
    removed_secrets: list[str]
    kept_secrets: list[str]
    other_credentials: list[str]


class RemovedSetupResponse(msgspec.Struct):
    """What a removal deleted, in an envelope."""

    success: bool
    data: RemovalResultResponse


def to_listed_response(found: IntegrationOverviews) -> ListedIntegrationsResponse:
    configured = [to_overview_response(each) for each in found.configured]
    available = [to_overview_response(each) for each in found.available]
    return ListedIntegrationsResponse(True, IntegrationOverviewsResponse(configured, available))


def to_overview_response(found: IntegrationOverview) -> IntegrationOverviewResponse:
    endpoints = [build_response(IntegrationEndpointResponse, each) for each in found.endpoints]
    return build_response(IntegrationOverviewResponse, found, endpoints=endpoints)


def to_schema_response(found: IntegrationDescription) -> DescribedIntegrationResponse:
    endpoints = [build_response(EndpointDescriptionResponse, each) for each in found.endpoints]
    schema = build_response(
        IntegrationSchemaResponse,
        found,
        credentials=to_field_responses(found.credentials),
        endpoints=endpoints,
    )
    return DescribedIntegrationResponse(True, schema)


def to_public_response(found: PublicIntegration) -> PublicIntegrationResponse:
    return build_response(
        PublicIntegrationResponse,
        found,
        credentials=to_field_responses(found.credentials),
        endpoints=[build_response(IntegrationEndpointResponse, each) for each in found.endpoints],
    )


def to_field_responses(fields: tuple[SetupField, ...]) -> list[SetupFieldResponse]:
    return [build_response(SetupFieldResponse, each) for each in fields]


def to_setup_response(result: SetupResult) -> StoredSetupResponse:
    return StoredSetupResponse(True, build_response(SetupResultResponse, result))


def to_removal_response(result: RemovalResult) -> RemovedSetupResponse:
    return RemovedSetupResponse(True, build_response(RemovalResultResponse, result))
