"""Set up integrations and remove them, and tell what each one needs and does.

Every answer is `{"success": true, "data": ...}` here, and every error has an `error_object`.
"""

from __future__ import annotations

from typing import Any

from headgate.api.access import ANYONE, MANAGERS, organization, tools
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.integration_setup import (
    DescribedIntegrationResponse,
    IntegrationSetup,
    ListedIntegrationsResponse,
    PublicCatalogResponse,
    RemovedSetupResponse,
    SchemaQuery,
    StoredSetupResponse,
    to_listed_response,
    to_public_response,
    to_removal_response,
    to_schema_response,
    to_setup_response,
)
from headgate.connectors.model.caller import ToolCaller
from headgate.connectors.service.directory import find_runner
from headgate.connectors.service.setup import SetupRequest

OPERATIONS = Operations(
    "Integration setup", "Integrations that are set up with a secret, and the endpoints of each."
)
READ = tools("connectors:read", roles=MANAGERS)
WRITE = organization("credentials:write")


@OPERATIONS.get(
    "/api/integrations", access=READ, summary="List configured integrations", is_enveloped=True
)
async def list_integrations(
    context: RequestContext[Empty, Empty],
) -> ListedIntegrationsResponse:
    """Return the integrations that the organization can use now, and those that can be set up, with
    the endpoints that the caller may run. An integration is configured if the organization has a
    usable credential of it, or if it needs none."""
    found = context.services.directory.list(context.organization_id, find_caller(context))
    return to_listed_response(found)


@OPERATIONS.get(
    "/api/integrations/catalog",
    access=ANYONE,
    summary="Read the public catalog of integrations",
    is_enveloped=True,
)
async def get_public_catalog(context: RequestContext[Empty, Empty]) -> PublicCatalogResponse:
    """Return the integrations that come with Headgate, their endpoints, and the values that each
    one needs. Nobody has to sign in for this, and it tells nothing of any organization."""
    found = context.services.directory.list_public()
    return PublicCatalogResponse(True, [to_public_response(each) for each in found])


@OPERATIONS.post(
    "/api/integrations/setup",
    access=WRITE,
    summary="Set up an integration",
    errors=(404, 429, 503),
    is_enveloped=True,
    example={
        "service": "openai",
        "secrets": {"openai_api_key": "sk-proj-EXAMPLE-0123456789abcdef"},
    },
)
async def setup_integration(
    context: RequestContext[Empty, IntegrationSetup],
) -> StoredSetupResponse:
    """Store the secret of an integration in the vault, and a credential that refers to it, so that
    its endpoints and models can be used at once. The same setup again changes nothing; another
    secret replaces the stored one. What an earlier setup said and this one leaves out stays as it
    is. With `test`, the provider is asked first, and a secret that it rejects is not stored."""
    context.principal.check_organization_wide()
    grant = context.principal.grant
    request = SetupRequest(
        organization_id=context.organization_id,
        service=context.body.service,
        secrets=context.body.secrets,
        is_tested=context.body.test,
        key_id="" if grant is None else grant.key_id,
    )
    return to_setup_response(await context.services.setup.set_up(request, by=context.actor))


@OPERATIONS.get(
    "/api/integrations/{integration_name}/schema",
    access=READ,
    summary="Read what an integration needs",
    is_enveloped=True,
)
async def get_integration_schema(
    context: RequestContext[SchemaQuery, Empty],
) -> DescribedIntegrationResponse:
    """Return the values that an integration needs and where to find them, and the inputs of its
    endpoints as JSON Schema."""
    found = context.services.directory.describe(
        context.organization_id,
        context.path["integration_name"],
        find_caller(context),
        context.query.endpoint,
    )
    return to_schema_response(found)


@OPERATIONS.delete(
    "/api/integrations/{integration_name}/setup",
    access=WRITE,
    summary="Remove an integration",
    is_versioned=False,
    is_enveloped=True,
)
async def remove_integration(context: RequestContext[Empty, Empty]) -> RemovedSetupResponse:
    """Delete the credential that a setup made, and its secret in the vault for good. Credentials
    that were added otherwise stay, and the answer names them."""
    context.principal.check_organization_wide()
    result = await context.services.setup.remove(
        context.organization_id, context.path["integration_name"], by=context.actor
    )
    return to_removal_response(result)


def find_caller(context: RequestContext[Any, Any]) -> ToolCaller | None:
    """Return the key or the application that asks; None for who manages: they see everything."""
    return None if context.principal.grant is None else find_runner(context.tool_caller)
