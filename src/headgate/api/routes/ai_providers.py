"""Model providers in the names of VM-X."""

from __future__ import annotations

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.routes.providers import LLM_PROVIDER
from headgate.api.schemas.ai_providers import AiProviderResponse, to_ai_provider_response
from headgate.api.schemas.fields import Empty

OPERATIONS = Operations(
    "VM-X: providers", "Model providers that a connection can be made to, in the names of VM-X."
)
READ = organization("credentials:read")


@OPERATIONS.get("/api/ai-provider", access=READ, summary="List model providers in names of VM-X")
async def list_ai_providers(context: RequestContext[Empty, Empty]) -> list[AiProviderResponse]:
    """Return the model providers that a connection can be made to, by id, with the JSON Schema of
    the `config` that each of them needs."""
    known = context.services.catalog.integrations
    return [
        to_ai_provider_response(context.services.catalog, name)
        for name in sorted(known)
        if known[name].integration_type == LLM_PROVIDER
    ]
