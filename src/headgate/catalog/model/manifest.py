"""The manifest of an integration, as its TOML file has it: its credentials, models and prices.

An unknown field is an error, so that a misspelt rate is not taken for a missing one.
"""

from __future__ import annotations

import datetime
import re
from collections.abc import Sequence
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from headgate.catalog.model.price import PriceBlock
from headgate.kit.errors import HeadgateError, Kind
from headgate.llm.convert.field_rules import FieldRules
from headgate.llm.providers.openai import PROVIDER
from headgate.relay.ports import DEADLINE_SECONDS_MAX, DEADLINE_SECONDS_MIN

BASE_URL = "{base_url}"
SECRET = "{api_key}"
API_KEY = "api_key"
"""The variable that holds the secret."""
ENDPOINT_NAMES = frozenset(row.name for row in PROVIDER.endpoints)
NAME = r"^[a-z][a-z0-9_]{0,63}$"
URL = r"^https?://"

Name = Annotated[str, Meta(pattern=NAME)]
Url = Annotated[str, Meta(pattern=URL)]
ModelId = Annotated[str, Meta(pattern=r"^[A-Za-z0-9][A-Za-z0-9._:/@-]{0,199}$")]
Score = Annotated[int, Meta(ge=1, le=5)]
Count = Annotated[int, Meta(ge=0)]
DeadlineSeconds = Annotated[float, Meta(ge=DEADLINE_SECONDS_MIN, le=DEADLINE_SECONDS_MAX)]
IntegrationType = Literal["llm_provider", "tool", "knowledge_provider"]
AuthType = Literal["oauth2", "bearer_token", "api_key", "modulex_key", "custom", "internal"]
Capability = Literal[
    "text",
    "vision",
    "audio",
    "images",
    "embeddings",
    "reasoning",
    "tools",
    "json",
    "streaming",
]


Surface = Literal["chat.completions", "responses"]


class InvalidCatalogError(HeadgateError):
    """A catalog file is invalid; the message names the file and the place in it.

    Correct the file, or remove it from the catalog directory.
    """

    code = "catalog_invalid"


class IntegrationNotFoundError(HeadgateError):
    """The catalog has no integration of this name.

    List the integrations with `GET /api/integrations/browse`.
    """

    kind = Kind.MISSING
    code = "integration_not_found"


class _Block(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Forbid unknown fields in every part of a manifest."""


class Variable(_Block, frozen=True):
    """Describe one value of a credential, a `[[auth_schema.variable]]` block.

    `default` is used where no value is given; a value must match `pattern`. `prefixes` are the
    public first characters of a secret, which a mask may show.
    """

    name: Name
    display_name: str
    description: str = ""
    required: bool = True
    sensitive: bool = True
    sample_format: str = ""
    about_url: Url | None = None
    pattern: str = ".+"
    default: str = ""
    prefixes: tuple[str, ...] = ()


class SuccessIndicators(_Block, frozen=True):
    """Describe a successful answer: one of these statuses, with these fields at its top level."""

    status_codes: tuple[int, ...] = (200,)
    response_fields: tuple[str, ...] = ()


class TestEndpoint(_Block, frozen=True):
    """Describe the call that tests a credential.

    `url` begins with `{base_url}`; `{api_key}` stands for the secret in `headers`, which are sent
    in addition to those of the schema. `cost_level` tells what the test costs the owner of the
    credential.
    """

    __test__ = False

    url: Annotated[str, Meta(pattern=r"^\{base_url\}/")] = BASE_URL + "/models"
    method: Literal["GET", "POST"] = "GET"
    headers: dict[str, str] = {}
    body: dict[str, Any] = {}
    success_indicators: SuccessIndicators = SuccessIndicators(response_fields=("data",))
    cost_level: Literal["free", "minimal", "paid"] = "free"

    @property
    def path(self) -> str:
        return self.url.removeprefix(BASE_URL)

    @property
    def status_codes(self) -> Sequence[int]:
        return self.success_indicators.status_codes

    @property
    def response_fields(self) -> Sequence[str]:
        return self.success_indicators.response_fields


class AuthSchema(_Block, frozen=True):
    """Describe the values of a credential and how its secret is sent, an `[[auth_schema]]` block.

    `headers` are sent with every call; exactly one of them holds `{api_key}`. `organization_header`
    names the customer's organization at the provider, where the provider has organizations.
    """

    auth_type: AuthType
    display_name: str
    description: str = ""
    setup_instructions: tuple[str, ...] = ()
    variables: tuple[Variable, ...] = msgspec.field(name="variable", default=())
    important_notes: tuple[str, ...] = ()
    headers: dict[str, str] = msgspec.field(
        default_factory=lambda: {"Authorization": f"Bearer {SECRET}"}
    )
    organization_header: str = ""
    test_endpoint: TestEndpoint = TestEndpoint()

    def __post_init__(self) -> None:
        names = [variable.name for variable in self.variables]
        if len(set(names)) < len(names):
            raise ValueError("two variables have the same name")
        if sum(SECRET in value for value in self.headers.values()) != 1:
            raise ValueError(f"exactly one of the headers must contain {SECRET}")
        for variable in self.variables:
            _check_pattern(variable.pattern)

    def find_variable(self, name: str) -> Variable | None:
        return next((each for each in self.variables if each.name == name), None)

    @property
    def secret_header(self) -> tuple[str, str]:
        """Return the name of the header that carries the secret, and the text before the secret
        in it."""
        name, value = next(item for item in self.headers.items() if SECRET in item[1])
        return name.lower(), value.removesuffix(SECRET)


class ModelEntry(_Block, frozen=True):
    """Describe a model, a `[[model]]` block. `wire_id` is the id sent to the provider, if it
    differs.

    Token counts are 0 where unknown; scores are 1 to 5. Deadlines override those of the settings. A
    deprecated model may name its replacement, which serves managed calls only. `surfaces` are the
    APIs by which it answers, where these are not all of its integration's. `converts` says whether
    calls of other surfaces are converted for it; otherwise they are refused.
    """

    id: ModelId
    display_name: str
    wire_id: str = ""
    description: str = ""
    input_tokens_max: Count = 0
    output_tokens_max: Count = 0
    first_byte_seconds: DeadlineSeconds | None = None
    idle_seconds: DeadlineSeconds | None = None
    total_seconds: DeadlineSeconds | None = None
    dimensions: Count = 0
    data_freshness: datetime.date | None = None
    intelligence: Score | None = None
    speed: Score | None = None
    supports_vision: bool = False
    capabilities: tuple[Capability, ...] = ()
    deprecated: bool = False
    replacement_id: ModelId | None = None
    aliases: tuple[ModelId, ...] = ()
    surfaces: tuple[Surface, ...] = ()
    converts: bool = True

    @property
    def output_limit(self) -> int | None:
        """Return the most tokens of an answer: None if unknown, 0 for models that return
        embeddings."""
        if "embeddings" in self.capabilities:
            return 0
        return self.output_tokens_max or None


class ActionEntry(_Block, frozen=True):
    """Describe one action of a tool, an `[[action]]` block."""

    name: Name
    display_name: str
    description: str = ""


class ExtraMetadata(_Block, frozen=True):
    """Hold hints for choosing an integration. `popularity_score` is 0 to 100."""

    status: Literal["active", "beta", "deprecated"] = "active"
    recommended: bool = False
    created_at: datetime.date | None = None
    updated_at: datetime.date | None = None
    popularity_score: Annotated[int, Meta(ge=0, le=100)] = 0


class EndpointFields(_Block, frozen=True):
    """Name the request fields that the integration takes at one endpoint, a `[fields.<endpoint>]`
    block (`llm.convert.field_rules`). `accepted` is left out where it takes all of OpenAI's."""

    accepted: tuple[str, ...] | None = None
    refused: tuple[str, ...] = ()
    renamed: dict[str, str] = {}

    def to_rules(self) -> FieldRules:
        accepted = None if self.accepted is None else frozenset(self.accepted)
        return FieldRules(accepted, self.refused, self.renamed)


class PriceSource(_Block, frozen=True):
    """Name the provider in genai-prices whose prices are compared with ours (`headgate prices`).
    `exceptions` maps model ids of that list that are left out here to the reason."""

    provider: str
    exceptions: dict[str, str] = {}


class IntegrationManifest(_Block, frozen=True, kw_only=True):
    """Describe one integration. Properties about secrets come from the first auth schema."""

    name: Name
    display_name: str
    description: str = ""
    version: str = "1"
    logo: str = ""
    app_url: Url | None = None
    docs_url: Url | None = None
    categories: tuple[Name, ...] = ()
    integration_type: IntegrationType
    default_model: ModelId | None = None
    output_limit_field: Literal["max_completion_tokens", "max_tokens"] = "max_tokens"
    """The field of a chat completion by which the integration takes an output limit."""
    surfaces: tuple[Surface, ...] = ()
    """The APIs by which its models answer. Calls of others are converted; without any, every call
    is passed on as it is."""
    stream_usage: Literal["ask", "never"] = "ask"
    """Whether it may be asked for the usage of a stream; "never" if it always sends it, or refuses
    the field."""
    fields: dict[str, EndpointFields] = {}
    """The fields that it takes by endpoint, where they are not all of OpenAI's."""
    models_from: Name | None = None
    """The integration whose models and prices it has as well."""
    extra_metadata: ExtraMetadata = ExtraMetadata()
    auth_schemas: tuple[AuthSchema, ...] = msgspec.field(name="auth_schema", default=())
    price_source: PriceSource | None = None
    models: tuple[ModelEntry, ...] = msgspec.field(name="model", default=())
    actions: tuple[ActionEntry, ...] = msgspec.field(name="action", default=())
    prices: tuple[PriceBlock, ...] = msgspec.field(name="price", default=())

    def __post_init__(self) -> None:
        if self.integration_type == "llm_provider" and self.actions:
            raise ValueError("an llm_provider has models, not actions")
        if self.integration_type != "llm_provider" and (self.models or self.prices):
            raise ValueError(f"a {self.integration_type} has actions, not models or prices")
        names = [schema.auth_type for schema in self.auth_schemas]
        if len(set(names)) < len(names):
            raise ValueError("two auth schemas have the same auth_type")
        if unknown := set(self.fields) - ENDPOINT_NAMES:
            raise ValueError(f"fields name the unknown endpoint {min(unknown)}")
        ids = {model.id for model in self.models}
        for model in self.models:
            if model.replacement_id is not None and model.replacement_id not in ids:
                raise ValueError(f"{model.id}: there is no model {model.replacement_id}")
        if self.default_model is not None and self.default_model not in ids:
            raise ValueError(f"there is no default model {self.default_model}")

    @property
    def auth_types(self) -> Sequence[str]:
        return [schema.auth_type for schema in self.auth_schemas]

    @property
    def base_url(self) -> str:
        """Return the URL that calls go to unless a credential overrides it."""
        variable = self._variable("base_url")
        return variable.default if variable else ""

    @property
    def secret_pattern(self) -> str:
        variable = self._variable(API_KEY)
        return variable.pattern if variable else ".+"

    @property
    def secret_prefixes(self) -> Sequence[str]:
        variable = self._variable(API_KEY)
        return variable.prefixes if variable else ()

    @property
    def secret_header(self) -> str:
        """Return the header that carries the secret, in lower case; empty if there is none."""
        return self.auth_schemas[0].secret_header[0] if self.auth_schemas else ""

    @property
    def secret_header_prefix(self) -> str:
        """Return the text before the secret in its header."""
        return self.auth_schemas[0].secret_header[1] if self.auth_schemas else ""

    @property
    def organization_header(self) -> str:
        """Return the header that names the customer's organization, in lower case; empty if
        there is none."""
        return self.auth_schemas[0].organization_header.lower() if self.auth_schemas else ""

    @property
    def test_call(self) -> TestEndpoint:
        return self.auth_schemas[0].test_endpoint if self.auth_schemas else TestEndpoint()

    def _variable(self, name: str) -> Variable | None:
        return self.auth_schemas[0].find_variable(name) if self.auth_schemas else None


def _check_pattern(pattern: str) -> None:
    try:
        re.compile(pattern)
    except re.error as error:
        raise ValueError(f"the pattern {pattern!r} is not a regular expression: {error}") from error
