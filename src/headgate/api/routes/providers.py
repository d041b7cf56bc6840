"""Model providers: what a connection to one needs, and which model it uses by default."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.api.access import organization
from headgate.api.operation import Operations, RequestContext
from headgate.api.shapes import Empty
from headgate.catalog.service.catalog import Catalog

OPERATIONS = Operations("Providers", "What a connection to a model provider needs.")
READ = organization("credentials:read")
LLM_PROVIDER = "llm_provider"


class ProviderResponse(msgspec.Struct, kw_only=True):
    """A provider. `config_schema` is the JSON Schema of a connection's `config`."""

    id: str
    name: str
    description: str
    default_model: str | None
    docs_url: str | None
    config_schema: dict[str, Any]


class ProviderList(msgspec.Struct):
    """By id."""

    providers: list[ProviderResponse]


@OPERATIONS.get("/api/providers", access=READ, summary="List providers")
async def list_providers(context: RequestContext[Empty, Empty]) -> ProviderList:
    """Those that a connection can be made to."""
    known = context.services.catalog.integrations
    return ProviderList(
        [
            to_provider_response(context.services.catalog, name)
            for name in sorted(known)
            if known[name].integration_type == LLM_PROVIDER
        ]
    )


def to_provider_response(catalog: Catalog, name: str) -> ProviderResponse:
    """A provider as the API writes it."""
    manifest = catalog.integrations[name]
    return ProviderResponse(
        id=manifest.name,
        name=manifest.display_name,
        description=manifest.description,
        default_model=manifest.default_model or None,
        docs_url=manifest.docs_url,
        config_schema={
            "type": "object",
            "required": ["api_key"],
            "additionalProperties": False,
            "properties": {
                "api_key": {
                    "type": "string",
                    "title": "API key",
                    "pattern": manifest.secret_pattern,
                    "writeOnly": True,
                },
                "base_url": {
                    "type": "string",
                    "title": "Base URL",
                    "pattern": "^https?://.*",
                    "default": manifest.base_url,
                },
                "organization": {"type": "string", "title": "Organization"},
            },
        },
    )
