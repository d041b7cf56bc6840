"""The catalog of integrations, with the fields of their credentials, models and prices."""

from __future__ import annotations

from typing import Any

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.integrations import (
    CatalogQuery,
    CategoryQuery,
    FindPrice,
    IntegrationList,
    IntegrationPage,
    IntegrationResponse,
    to_integration_response,
    to_integration_summary_response,
)
from headgate.catalog.model.manifest import IntegrationManifest, IntegrationNotFoundError
from headgate.catalog.service.browse import IntegrationFilter, browse

OPERATIONS = Operations(
    "Integrations", "The catalog of model providers, tools and knowledge providers; read-only."
)
READ = organization("catalog:read")
LLM, TOOL, KNOWLEDGE = "llm_provider", "tool", "knowledge_provider"


@OPERATIONS.get("/api/integrations/browse", access=READ, summary="Browse the catalog")
async def browse_integrations(context: RequestContext[CatalogQuery, Empty]) -> IntegrationPage:
    """Return a page of the catalog, recommended integrations first. `search` matches any part of
    names, descriptions and model ids, in upper or lower case. `include_details=true` adds
    models, actions and authentication schemas; `paginate=false` returns everything on one page."""
    query = context.query
    filters = IntegrationFilter(
        category=query.category,
        integration_type=query.type,
        auth_type=query.auth_type,
        search=query.search,
    )
    integrations = browse(context.services.catalog.integrations.values(), filters)
    number, size = query.page, query.page_size
    if not query.paginate:
        number, size = 1, max(1, len(integrations))
    first = (number - 1) * size
    page = integrations[first : first + size]
    find_price = build_price_finder(context)
    responses = [
        to_integration_response(manifest, find_price)
        if query.include_details
        else to_integration_summary_response(manifest)
        for manifest in page
    ]
    has_more = first + len(page) < len(integrations)
    return IntegrationPage(responses, len(integrations), number, size, has_more)


@OPERATIONS.get("/api/integrations/llm-providers", access=READ, summary="List model providers")
async def list_llm_providers(context: RequestContext[CategoryQuery, Empty]) -> IntegrationList:
    """Return all model providers with their models, prices and authentication schemas, recommended
    ones first."""
    return list_type(context, LLM)


@OPERATIONS.get(
    "/api/integrations/llm-providers/{provider_name}", access=READ, summary="Read a model provider"
)
async def get_llm_provider(context: RequestContext[Empty, Empty]) -> IntegrationResponse:
    """Return one model provider with its models, their prices, its default model, and the fields
    that a credential needs."""
    return get_integration_response(context, context.path["provider_name"], LLM)


@OPERATIONS.get("/api/integrations/tools", access=READ, summary="List tools")
async def list_tools(context: RequestContext[CategoryQuery, Empty]) -> IntegrationList:
    """Return all tools with their actions and authentication schemas, recommended ones first."""
    return list_type(context, TOOL)


@OPERATIONS.get("/api/integrations/tools/{tool_name}", access=READ, summary="Read a tool")
async def get_tool(context: RequestContext[Empty, Empty]) -> IntegrationResponse:
    """Return one tool with its actions and the fields that a credential needs."""
    return get_integration_response(context, context.path["tool_name"], TOOL)


@OPERATIONS.get(
    "/api/integrations/knowledge-providers", access=READ, summary="List knowledge providers"
)
async def list_knowledge_providers(
    context: RequestContext[CategoryQuery, Empty],
) -> IntegrationList:
    """Return all knowledge providers with their actions and authentication schemas, recommended
    ones first."""
    return list_type(context, KNOWLEDGE)


@OPERATIONS.get(
    "/api/integrations/knowledge-providers/{knowledge_provider_name}",
    access=READ,
    summary="Read a knowledge provider",
)
async def get_knowledge_provider(context: RequestContext[Empty, Empty]) -> IntegrationResponse:
    """Return one knowledge provider with its actions and the fields that a credential needs."""
    return get_integration_response(context, context.path["knowledge_provider_name"], KNOWLEDGE)


@OPERATIONS.get("/api/integrations/{integration_name}", access=READ, summary="Read an integration")
async def get_integration(context: RequestContext[Empty, Empty]) -> IntegrationResponse:
    """Return one integration of any type with its models or actions and the fields that a
    credential needs."""
    return get_integration_response(context, context.path["integration_name"])


def list_type(
    context: RequestContext[CategoryQuery, Empty], integration_type: str
) -> IntegrationList:
    """Return every integration of a type with its details."""
    filters = IntegrationFilter(integration_type=integration_type, category=context.query.category)
    integrations = browse(context.services.catalog.integrations.values(), filters)
    find_price = build_price_finder(context)
    return IntegrationList(
        [to_integration_response(each, find_price) for each in integrations], len(integrations)
    )


def get_integration_response(
    context: RequestContext[Any, Any], name: str, integration_type: str | None = None
) -> IntegrationResponse:
    """Return one integration with its details. Raise `IntegrationNotFoundError`, also for one
    of another type."""
    manifest = context.services.catalog.integrations.get(name)
    if manifest is None or integration_type not in (None, manifest.integration_type):
        raise IntegrationNotFoundError("There is no such integration.")
    return to_integration_response(manifest, build_price_finder(context))


def build_price_finder(context: RequestContext[Any, Any]) -> FindPrice:
    """Return a function that finds the prices in force now."""
    catalog, now = context.services.catalog, context.services.clock.now()
    return lambda integration, model_id: catalog.price_at(integration, model_id, now)


def list_llm_manifests(context: RequestContext[Any, Any]) -> list[IntegrationManifest]:
    """Return every model provider, recommended ones first."""
    manifests = context.services.catalog.integrations.values()
    return browse(manifests, IntegrationFilter(integration_type=LLM))
