"""The catalog as the platform API writes it: integrations, their models and prices."""

from __future__ import annotations

import datetime
from collections.abc import Callable
from typing import Annotated, Any, Literal

import msgspec
from msgspec import UNSET, Meta, UnsetType

from headgate.api.schemas.fields import build_response
from headgate.catalog.model.manifest import (
    AuthSchema,
    IntegrationManifest,
    ModelEntry,
    TestEndpoint,
)
from headgate.catalog.model.rates import NanoRates, PriceRow
from headgate.kit.money import NANO_PER_DOLLAR

FindPrice = Callable[[str, str], PriceRow | None]
"""The price in force now of an integration's model."""


class AuthVariableResponse(msgspec.Struct):
    """A field of a credential, for a form."""

    name: str
    display_name: str
    description: str
    required: bool
    sensitive: bool
    sample_format: str
    about_url: str | None
    pattern: str
    default: str | None


class SuccessIndicatorsResponse(msgspec.Struct):
    """What a successful answer to the test request has."""

    status_codes: list[int]
    response_fields: list[str]


class TestEndpointResponse(msgspec.Struct):
    """The request that tests a credential. `{api_key}` and `{base_url}` stand for the credential's
    own values."""

    url: str
    method: str
    headers: dict[str, str]
    body: dict[str, Any]
    success_indicators: SuccessIndicatorsResponse
    cost_level: str


class AuthSchemaResponse(msgspec.Struct):
    """The fields of a credential, and how to obtain their values."""

    auth_type: str
    display_name: str
    description: str
    setup_instructions: list[str]
    setup_environment_variables: list[AuthVariableResponse]
    important_notes: list[str]
    test_endpoint: TestEndpointResponse


class TierRatesResponse(msgspec.Struct):
    """Prices of a service tier in decimal US dollars, by class: per million tokens (`input`), per
    image (`per_image`), or per minute (`per_minute`). With `above_input_tokens`, they apply to
    requests with more input tokens than that."""

    tier: str
    above_input_tokens: int | None
    rates: dict[str, str]
    tool_calls: dict[str, str]


class PricingResponse(msgspec.Struct):
    """The prices that calls are charged by now. Receipts name them by `price_id`."""

    price_id: str
    currency: str
    tiers: list[TierRatesResponse]


class ModelResponse(msgspec.Struct):
    """A model. Prices are decimal US dollars per million tokens in the default tier, without
    long-context surcharges. Prices, token counts and scores are null if they are unknown."""

    id: str
    display_name: str
    description: str
    max_input_tokens: int | None
    max_output_tokens: int | None
    input_price_per_1m: str | None
    output_price_per_1m: str | None
    cached_input_price_per_1m: str | None
    pricing: PricingResponse | None
    intelligence: int | None
    speed: int | None
    data_freshness: datetime.date | None
    supports_vision: bool
    capabilities: list[str]
    dimensions: int | None
    deprecated: bool
    replacement_id: str | None
    aliases: list[str]
    body_extra: dict[str, str]


class ActionResponse(msgspec.Struct):
    """An action that a tool offers."""

    name: str
    display_name: str
    description: str


class IntegrationMetadataResponse(msgspec.Struct):
    """Details that help to choose an integration."""

    status: str
    recommended: bool
    created_at: datetime.date | None
    updated_at: datetime.date | None
    popularity_score: int


class IntegrationResponse(msgspec.Struct):
    """An integration. Details are present if they were asked for: a model provider has `models`,
    other integrations have `actions`."""

    name: str
    display_name: str
    description: str
    version: str
    logo: str | None
    app_url: str | None
    docs_url: str | None
    categories: list[str]
    integration_type: str
    auth_types: list[str]
    extra_metadata: IntegrationMetadataResponse
    default_model: str | UnsetType | None = UNSET
    auth_schemas: list[AuthSchemaResponse] | UnsetType = UNSET
    models: list[ModelResponse] | UnsetType = UNSET
    actions: list[ActionResponse] | UnsetType = UNSET


def to_integration_summary_response(manifest: IntegrationManifest) -> IntegrationResponse:
    """Return an integration without models, actions and schemas."""
    return build_response(
        IntegrationResponse,
        manifest,
        logo=manifest.logo or None,
        extra_metadata=build_response(IntegrationMetadataResponse, manifest.extra_metadata),
        default_model=UNSET,
        auth_schemas=UNSET,
        models=UNSET,
        actions=UNSET,
    )


def to_integration_response(
    manifest: IntegrationManifest, find_price: FindPrice
) -> IntegrationResponse:
    response = to_integration_summary_response(manifest)
    response.auth_schemas = [to_auth_schema_response(schema) for schema in manifest.auth_schemas]
    if manifest.integration_type == "llm_provider":
        response.default_model = manifest.default_model
        response.models = to_model_responses(manifest, find_price)
    else:
        response.actions = [build_response(ActionResponse, action) for action in manifest.actions]
    return response


def to_model_responses(manifest: IntegrationManifest, find_price: FindPrice) -> list[ModelResponse]:
    """Return the models of a provider in the order of its catalog file."""
    return [
        to_model_response(model, find_price(manifest.name, model.id)) for model in manifest.models
    ]


def to_auth_schema_response(schema: AuthSchema) -> AuthSchemaResponse:
    return build_response(
        AuthSchemaResponse,
        schema,
        setup_environment_variables=[
            build_response(AuthVariableResponse, each, default=each.default or None)
            for each in schema.variables
        ],
        test_endpoint=_to_test_endpoint_response(schema, schema.test_endpoint),
    )


def _to_test_endpoint_response(schema: AuthSchema, test: TestEndpoint) -> TestEndpointResponse:
    expected = test.success_indicators
    return TestEndpointResponse(
        url=test.url,
        method=test.method,
        headers={**schema.headers, **test.headers},
        body=test.body,
        success_indicators=SuccessIndicatorsResponse(
            list(expected.status_codes), list(expected.response_fields)
        ),
        cost_level=test.cost_level,
    )


def to_model_response(model: ModelEntry, price: PriceRow | None) -> ModelResponse:
    steps = price.tiers.get("default", ()) if price else ()
    base = steps[-1] if steps else NanoRates()
    return build_response(
        ModelResponse,
        model,
        max_input_tokens=model.input_tokens_max or None,
        max_output_tokens=model.output_limit,
        input_price_per_1m=_format_rate(base.input),
        output_price_per_1m=_format_rate(base.output),
        cached_input_price_per_1m=_format_rate(base.cached_input),
        pricing=None if price is None else to_pricing_response(price),
        dimensions=model.dimensions or None,
        body_extra={"model": model.wire_id or model.id},
    )


def to_pricing_response(price: PriceRow) -> PricingResponse:
    """Return every tier and threshold; the default tier without a threshold comes first."""
    response = [
        TierRatesResponse(
            tier=tier,
            above_input_tokens=None if rates.above_input_tokens < 0 else rates.above_input_tokens,
            rates={
                name: dollars
                for name in RATE_NAMES
                if (dollars := _format_rate(getattr(rates, name))) is not None
            },
            tool_calls={n: str(_format_rate(rate)) for n, rate in rates.tool_calls.items()},
        )
        for tier, steps in price.tiers.items()
        for rates in reversed(steps)
    ]
    response.sort(key=lambda each: (each.tier != "default", each.tier))
    return PricingResponse(price.id, "USD", response)


RATE_NAMES = tuple(
    name for name in NanoRates.__struct_fields__ if name not in ("above_input_tokens", "tool_calls")
)


def _format_rate(nano: int | None) -> str | None:
    if nano is None:
        return None
    whole, rest = divmod(nano, NANO_PER_DOLLAR)
    return f"{whole}.{rest:09d}".rstrip("0").rstrip(".")


Word = Annotated[str, Meta(min_length=1, max_length=64)]


class CatalogQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select integrations and a page of them."""

    category: Word | None = None
    type: Literal["llm_provider", "tool", "knowledge_provider"] | None = None
    auth_type: Word | None = None
    search: Annotated[str, Meta(min_length=1, max_length=200)] | None = None
    include_details: bool = False
    page: Annotated[int, Meta(ge=1, le=1_000_000)] = 1
    page_size: Annotated[int, Meta(ge=1, le=100)] = 20
    paginate: bool = True


class CategoryQuery(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """Select integrations of one category."""

    category: Word | None = None


class IntegrationPage(msgspec.Struct):
    """A page of integrations, recommended ones first."""

    integrations: list[IntegrationResponse]
    total: int
    page: int
    page_size: int
    has_more: bool


class IntegrationList(msgspec.Struct):
    """All integrations of one type, recommended ones first."""

    integrations: list[IntegrationResponse]
    total: int
