"""Model providers as the platform API writes them."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.catalog.service.catalog import Catalog


class ProviderResponse(msgspec.Struct, kw_only=True):
    """A model provider. `config_schema` is the JSON Schema of a connection's `config`."""

    id: str
    name: str
    description: str
    default_model: str | None
    docs_url: str | None
    config_schema: dict[str, Any]


class ProviderList(msgspec.Struct):
    """All model providers, by id."""

    providers: list[ProviderResponse]


def to_provider_response(catalog: Catalog, name: str) -> ProviderResponse:
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
