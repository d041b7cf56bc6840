"""The model providers that a connection can be made to."""

from __future__ import annotations

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.schemas.fields import Empty
from headgate.api.schemas.providers import ProviderList, to_provider_response

OPERATIONS = Operations("Providers", "Model providers that a connection can be made to.")
READ = organization("credentials:read")
LLM_PROVIDER = "llm_provider"


@OPERATIONS.get("/api/providers", access=READ, summary="List model providers for connections")
async def list_providers(context: RequestContext[Empty, Empty]) -> ProviderList:
    """Return the model providers that a connection can be made to, by id, with the JSON Schema of
    the `config` that each of them needs."""
    known = context.services.catalog.integrations
    return ProviderList(
        [
            to_provider_response(context.services.catalog, name)
            for name in sorted(known)
            if known[name].integration_type == LLM_PROVIDER
        ]
    )
