"""Model providers in the names of VM-X."""

from __future__ import annotations

from typing import Any

import msgspec

from headgate.api.schemas.providers import to_provider_response
from headgate.catalog.service.catalog import Catalog
from headgate.llm.vmx_names import to_vmx_name


class AiProviderForm(msgspec.Struct):
    """What a connection to the provider needs: `form` is the JSON Schema of its `config`."""

    form: dict[str, Any]


class AiProviderConfig(msgspec.Struct):
    """How the provider is shown, and what a connection to it needs."""

    logo: dict[str, str]
    connection: AiProviderForm


class AiProviderResponse(msgspec.Struct, kw_only=True, rename="camel"):
    """A model provider that a connection can be made to."""

    id: str
    name: str
    description: str
    default_model: str | None
    config: AiProviderConfig


def to_ai_provider_response(catalog: Catalog, name: str) -> AiProviderResponse:
    own = to_provider_response(catalog, name)
    schema = own.config_schema
    fields = {to_vmx_name(each): value for each, value in schema["properties"].items()}
    fields["apiKey"] = {**fields["apiKey"], "format": "secret"}
    required = [to_vmx_name(each) for each in schema["required"]]
    form = {**schema, "required": required, "properties": fields}
    return AiProviderResponse(
        id=own.id,
        name=own.name,
        description=own.description,
        default_model=own.default_model,
        config=AiProviderConfig({"url": catalog.integrations[name].logo}, AiProviderForm(form)),
    )
